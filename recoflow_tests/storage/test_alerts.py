from datetime import UTC, datetime

from recoflow.errors import SourceError
from recoflow.storage.alerts import raise_alert, read_alerts

NOW = datetime(2026, 11, 30, 6, tzinfo=UTC)


def test_an_alert_names_environment_culprit_problem_and_cure(tmp_path):
    raise_alert(
        tmp_path / "logs/alerts.jsonl", SourceError("a.csv", "is unreadable", "Grant read access"), NOW, "lorem"
    )
    ((alert, _),) = read_alerts(tmp_path / "logs/alerts.jsonl")
    assert str(alert) == "lorem: a.csv: is unreadable. Grant read access"
    assert alert.at == "2026-11-30T06:00:00+00:00"


def test_reading_goes_on_behind_what_was_read(tmp_path):
    for name in ("a", "b"):
        raise_alert(tmp_path / "alerts.jsonl", SourceError(name, "is damaged", "Remove it"), NOW)
    first, second = read_alerts(tmp_path / "alerts.jsonl")
    assert [alert.culprit for alert, _ in read_alerts(tmp_path / "alerts.jsonl", first[1])] == ["b"]
    assert list(read_alerts(tmp_path / "alerts.jsonl", second[1])) == []


def test_without_a_file_there_are_no_alerts(tmp_path):
    assert list(read_alerts(tmp_path / "alerts.jsonl")) == []
