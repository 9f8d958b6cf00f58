"""Requests that wait, are taken up and end, each with a report that names nobody."""

from __future__ import annotations

from pathlib import Path

from recoflow.privacy import cases, request
from recoflow.privacy.forget import forget
from recoflow.storage.layout import Layout
from recoflow_tests.privacy.conftest import ANN, PHONE, Installed

NOBODY: frozenset[str] = frozenset()


def test_two_requests_about_one_person_are_both_carried_out_and_proved(made: Installed) -> None:
    asked = [
        cases.file(made.layout, "lorem", frozenset({ANN}), NOBODY),
        cases.file(made.layout, "lorem", NOBODY, frozenset({PHONE})),
    ]
    removed = []
    for case in asked:
        path = made.layout.inbox("lorem") / f"lorem_forget_{case}.csv"
        users, devices = request.read(path, path.name)
        cases.begin(made.layout, "lorem", path.name)
        report = forget(made.layout, made.environment, made.lakes, user_ids=users, device_ids=devices, request=path)
        cases.finish(made.layout, "lorem", path.name, report)
        found = cases.look_up(made.layout, "lorem", case)
        assert found is not None
        assert found["state"] == cases.DONE
        assert found["report"] == report.as_json()
        assert report.is_forgotten
        assert path.read_text().splitlines() == ['"user_id","device_id"']
        removed.append(sum(each.count for each in report.removals if each.what != "files"))
    assert removed[0] > 0
    assert removed[1] == 0
    kept = [path for path in made.layout.forgotten("lorem").rglob("*") if ANN in path.read_text() + path.name]
    assert kept == []


def test_a_request_is_known_under_its_id_until_and_after_it_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    case = cases.file(layout, "lorem", frozenset({"ann"}), NOBODY)
    assert cases.file(layout, "lorem", frozenset({"ann"}), NOBODY) == case
    assert cases.file(layout, "ipsum", frozenset({"ann"}), NOBODY) != case
    assert cases.look_up(layout, "lorem", case) == {"state": cases.WAITING}
    cases.refuse(layout, "lorem", f"lorem_forget_{case}.csv", "names nobody")
    assert cases.look_up(layout, "lorem", case) == {"state": cases.REFUSED, "problem": "names nobody"}
    assert cases.look_up(layout, "ipsum", case) is None
