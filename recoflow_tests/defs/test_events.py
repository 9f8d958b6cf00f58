"""What the assets of events show in the UI."""

from __future__ import annotations

import shutil
from pathlib import Path

from recoflow_tests import scenario

SAMPLE = Path(__file__).parents[2] / "data/sample"


def test_the_quarantine_shows_how_often_each_reason_occurs_and_the_latest_refusals(tmp_path: Path) -> None:
    with scenario.installed(tmp_path / "data", "lorem") as made:
        inbox = made.layout.inbox("lorem")
        inbox.mkdir(parents=True)
        for path in SAMPLE.glob("lorem_events_*.jsonl"):
            shutil.copy(path, inbox)
        shown = scenario.materializations(made.run("lorem_ingest"))["quarantine"]

    assert shown["dagster/row_count"] == 7
    codes, latest = str(shown["codes"]).splitlines(), str(shown["latest"]).splitlines()
    assert codes[0] == "| code | field | events | files | latest |"
    assert len(codes) == 2 + 7
    assert latest[0] == "| received_at | file | line | field | code | message | raw |"
    assert len(latest) == 2 + 7
