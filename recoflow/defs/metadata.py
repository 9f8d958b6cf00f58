"""How data is shown in the Dagster UI: previews, tables, and findings as check results.

The UI renders Markdown and HTML, and Dagster's databases keep what it shows for months. So texts from outside are
shown as code, which renders as nothing else, and columns that say who did something are not shown at all.
"""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from recoflow.compute.stage_timer import StageTimer
from recoflow.printable import printable
from recoflow.quality.finding import Finding
from recoflow.storage.lake.lake import Lake

PREVIEW_ROWS = 10
PEOPLE = ("user_id", "device_id", "session_id", "subject", "referrer", "properties", "raw", "message")
_PLAIN = re.compile(r"[\w .,:;%+()/'\"=…→-]*")
_BREAKS = (("](", "] ("), ("][", "] ["), ("]:", "] :"), ("<", "‹"), (">", "›"), ("://", ":/ /"), ("`", "'"))


def preview(frame: pl.DataFrame, rows: int = PREVIEW_ROWS) -> dg.MetadataValue:
    """The first rows as a Markdown table, without the columns that have ids of people, or free text with such ids."""
    shown = frame.head(rows).drop(PEOPLE, strict=False)
    if not shown.columns:
        return dg.MetadataValue.md("*ids of people are not shown*")
    return table(shown.to_dicts(), shown.columns)


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> dg.MetadataValue:
    """Rows as a Markdown table; cells are cut at 80 characters, and render as nothing but text."""
    if not rows:
        return dg.MetadataValue.md("*no rows*")
    names = list(columns or rows[0])
    lines = [
        [_cell(name) for name in names],
        ["---"] * len(names),
        *([_cell(row[name]) for name in names] for row in rows),
    ]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(line)} |" for line in lines))


def harmless_text(value: str) -> str:
    """A text from outside where the UI may render Markdown: no link, image or HTML comes of it."""
    value = printable(value, keep="\n")
    for markup, harmless in _BREAKS:
        value = value.replace(markup, harmless)
    return re.sub(r"(?i)www\.", "www .", value)


def picture(svg: str, title: str) -> dg.MetadataValue:
    """An SVG inside Markdown, which the UI shows."""
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def stages(watch: StageTimer) -> dg.MetadataValue:
    """Where the time went, as a table; stages that overlap are each told whole."""
    return table([{"stage": name, "seconds": f"{seconds:.2f}"} for name, seconds in watch.seconds.items()])


def row_count(lake: Lake, table: str) -> int:
    """Rows of a table of the lake."""
    return int(lake.scan(table).select(pl.len()).collect().item())


def column_schema(schema: pl.Schema) -> dg.TableSchema:
    """A polars schema as Dagster's column schema."""
    return dg.TableSchema(columns=[dg.TableColumn(name=name, type=str(dtype)) for name, dtype in schema.items()])


def check_specs(key: dg.AssetKey, checks: Mapping[str, str], *, warn: Iterable[str] = ()) -> list[dg.AssetCheckSpec]:
    """One spec per check name → description; all block what comes after them, but for those in `warn`."""
    warned = set(warn)
    return [
        dg.AssetCheckSpec(name=name, asset=key, description=description, blocking=name not in warned)
        for name, description in checks.items()
    ]


def check_results(
    findings: Sequence[Finding], checks: Iterable[str], key: dg.AssetKey, about: Mapping[str, Any]
) -> list[dg.AssetCheckResult]:
    """Findings as check results; `about` (say, the campaign) goes into the metadata of each.

    A check of `checks` without a finding was not reached, and has failed.
    """
    reached = {finding.check for finding in findings}
    missing = [Finding(check, passed=False, message="not reached: an earlier check failed") for check in checks]
    everything = [*findings, *(finding for finding in missing if finding.check not in reached)]
    return [
        dg.AssetCheckResult(
            asset_key=key,
            check_name=finding.check,
            passed=finding.passed,
            severity=dg.AssetCheckSeverity.ERROR if finding.severity == "error" else dg.AssetCheckSeverity.WARN,
            description=harmless_text(finding.message),
            metadata={**about, **finding.metadata},
        )
        for finding in everything
    ]


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
    text = text if len(text) <= 80 else text[:79] + "…"
    text = printable(text.replace("\n", " "))
    if _PLAIN.fullmatch(text) and "//" not in text and "www." not in text.lower():
        return text
    # In code nothing is markup but the end of the code, and in a table the end of the cell.
    return f"`{text.replace('`', chr(39)).replace('|', '¦')}`"
