"""No command lets a text from outside reach the terminal's own commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recoflow import cli
from recoflow.commands import terminal
from recoflow.errors import SourceError
from recoflow.printable import printable
from recoflow_tests import scenario

pytestmark = pytest.mark.fault("M18")
EVIL = "evil\x1b]0;owned\x07\x1b[31m\x1b[2J\x9b1m\u202egpj.exe"
SHOWN = "evil\\x1b]0;owned\\x07\\x1b[31m\\x1b[2J\\x9b1m\\u202egpj.exe"
DANGEROUS = {chr(code) for code in (*range(32), *range(127, 160), *range(0x202A, 0x202F))} - {"\n"}


@pytest.mark.parametrize("text", ["Grüße, 中文, שלום, العربية, नमस्ते", "👩\u200d💻", "می\u200cخواهم", "a\\b 'c' [d]"])
def test_ordinary_text_of_any_language_stays_readable(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("code", [*range(32), 127, 0x85, 0x9B, 0xAD, 0x200B, 0x202E, 0x2028, 0x2066, 0xFEFF, 0xDC9B])
def test_characters_that_command_or_hide_are_shown_as_escapes(code: int) -> None:
    shown = printable(f"a{chr(code)}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert printable("a\nb", keep="\n") == "a\nb"


def test_tables_titles_refusals_and_errors_are_safe(capsys: pytest.CaptureFixture[str]) -> None:
    import polars as pl

    rejects = pl.DataFrame([{"file": EVIL, "line": 1, "code": "x", "message": EVIL}])
    terminal.reject_lines(rejects)
    terminal.table(EVIL, [(EVIL, EVIL)], [EVIL, "second"])
    terminal.console.print(EVIL, markup=False)
    terminal.errors.print(EVIL, markup=False)
    for printed in capsys.readouterr():
        assert not DANGEROUS & {*printed}
    assert not DANGEROUS & {*str(SourceError(EVIL, "is wrong", "Mend it"))}


def test_commands_print_names_and_events_from_outside_as_escapes(tmp_path: Path) -> None:
    with scenario.installed(tmp_path / "data", "lorem") as made:
        inbox = made.layout.inbox("lorem")
        inbox.mkdir(parents=True)
        file = inbox / f"{EVIL.replace('/', '')}_events.jsonl"
        event = {"event_type": EVIL, "user_id": "u", "page_type": "home", "timestamp": 1_770_000_000_000, EVIL: 1}
        file.write_text(json.dumps(event, ensure_ascii=False) + "\n")
        data = ["--data", str(made.layout.root)]
        runs = [
            CliRunner().invoke(cli.app, ["validate", str(file), "-e", "lorem", *data]),
            CliRunner().invoke(cli.app, ["profile", str(file), "-e", "lorem", *data]),
            CliRunner().invoke(cli.app, ["request", "validate", str(file), "-e", "lorem", *data]),
        ]
        assert made.run("lorem_ingest").success
        runs.append(CliRunner().invoke(cli.app, ["quarantine", "list", "-e", "lorem", *data]))
    for result in runs:
        assert not DANGEROUS & {*result.output}
    assert "\\x1b" in runs[0].output
    assert "\\x1b" in runs[-1].output
    assert "unknown_event_type" in runs[-1].output
