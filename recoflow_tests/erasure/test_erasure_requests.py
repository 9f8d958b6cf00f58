"""Requests that wait, are taken up and end, each with a report that names nobody."""

from __future__ import annotations

from pathlib import Path

from recoflow.erasure import erasure_requests, request_file
from recoflow.erasure.erase import erase
from recoflow.storage.paths import Paths
from recoflow_tests.erasure.conftest import ANN, PHONE, Installed

NOBODY: frozenset[str] = frozenset()


def test_two_requests_about_one_person_are_both_carried_out_and_proved(made: Installed) -> None:
    asked = [
        erasure_requests.submit(made.layout, "lorem", frozenset({ANN}), NOBODY),
        erasure_requests.submit(made.layout, "lorem", NOBODY, frozenset({PHONE})),
    ]
    removed = []
    for case in asked:
        path = made.layout.inbox("lorem") / f"lorem_forget_{case}.csv"
        users, devices = request_file.read_request_file(path, path.name)
        erasure_requests.begin(made.layout, "lorem", path.name)
        report = erase(made.layout, made.environment, made.lakes, user_ids=users, device_ids=devices, request=path)
        erasure_requests.finish(made.layout, "lorem", path.name, report)
        found = erasure_requests.look_up(made.layout, "lorem", case)
        assert found is not None
        assert found["state"] == erasure_requests.DONE
        assert found["report"] == report.as_json()
        assert report.is_forgotten
        assert path.read_text().splitlines() == ['"user_id","device_id"']
        removed.append(sum(each.count for each in report.removals if each.what != "files"))
    assert removed[0] > 0
    assert removed[1] == 0
    kept = [path for path in made.layout.forgotten("lorem").rglob("*") if ANN in path.read_text() + path.name]
    assert kept == []


def test_a_request_is_known_under_its_id_until_and_after_it_is_refused(tmp_path: Path) -> None:
    layout = Paths(tmp_path)
    case = erasure_requests.submit(layout, "lorem", frozenset({"ann"}), NOBODY)
    assert erasure_requests.submit(layout, "lorem", frozenset({"ann"}), NOBODY) == case
    assert erasure_requests.submit(layout, "ipsum", frozenset({"ann"}), NOBODY) != case
    assert erasure_requests.look_up(layout, "lorem", case) == {"state": erasure_requests.WAITING}
    erasure_requests.refuse(layout, "lorem", f"lorem_forget_{case}.csv", "names nobody")
    assert erasure_requests.look_up(layout, "lorem", case) == {
        "state": erasure_requests.REFUSED,
        "problem": "names nobody",
    }
    assert erasure_requests.look_up(layout, "ipsum", case) is None
