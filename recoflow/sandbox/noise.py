"""Events as the lines of a file, and the share of them that a real tracker would get wrong.

What belongs here: the encoding of Froomle events as JSON lines, and broken or repeated lines with what must become of
each. What does not: reading them back (sources does, and the tests compare).
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import polars as pl

from recoflow.sandbox.readers import quota

SHARE: Final = 4e-5  # of the events, for each kind of dirt; one of each at least
DUPLICATE: Final = "exact_duplicate"
_TIME: Final = "%Y-%m-%dT%H:%M:%S%.3fZ"


def event_lines(events: pl.DataFrame) -> pl.Series:
    """One JSON object per event, in order; a field that is null is left out."""
    frame = events.with_columns(pl.col("timestamp").dt.strftime(_TIME)).with_row_index("row")
    names = events.columns
    pattern = pl.sum_horizontal(pl.col(name).is_not_null() * (1 << i) for i, name in enumerate(names))
    encoded = []
    for (mask,), group in frame.with_columns(pattern=pattern).group_by("pattern"):
        present = [name for i, name in enumerate(names) if int(str(mask)) >> i & 1]
        encoded.append(group.select("row", line=pl.struct(present).struct.json_encode()))
    return pl.concat(encoded).sort("row")["line"]


def spill(random: np.random.Generator, events: pl.DataFrame) -> pl.DataFrame:
    """Lines that do not belong among `events`.

    Returns:
        `row` (the event that the line follows in its file), `kind`, `line`. A line of the kind `exact_duplicate` counts
        as a duplicate, every other one goes to quarantine.
    """
    spilt: list[dict[str, Any]] = []
    taken: set[int] = set()
    for kind, (event_types, breaks) in _KINDS.items():
        rows = events.with_row_index("row").filter(_candidates(event_types) & ~pl.col("row").is_in(taken))
        chosen = rows.filter(quota(random, rows.height, events.height * SHARE / max(1, rows.height)))
        taken.update(chosen["row"].to_list())
        for row, line in zip(chosen["row"], event_lines(chosen.drop("row")), strict=True):
            spilt.append({"row": row, "kind": kind, "line": breaks(line)})
    return pl.DataFrame(spilt, schema={"row": pl.Int64, "kind": pl.String, "line": pl.String}).sort("row", "kind")


def _candidates(event_types: tuple[str, ...]) -> pl.Expr:
    return pl.col("event_type").is_in(event_types) if event_types else pl.col("event_type") != "purchase"


def _without(*names: str) -> Any:
    return lambda line: _dump({key: value for key, value in json.loads(line).items() if key not in names})


def _with(**values: Any) -> Any:
    return lambda line: _dump(json.loads(line) | values)


def _no_zone(line: str) -> str:
    event = json.loads(line)
    return _dump(event | {"timestamp": event["timestamp"].removesuffix("Z")})


def _dump(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


_KINDS: Final[dict[str, tuple[tuple[str, ...], Any]]] = {
    "missing_item": (("detail_pageview",), _without("action_item")),
    "missing_identity": (("page_visit",), _without("user_id", "device_id")),
    "missing_request": (("impression",), _without("request_id")),
    "unknown_event_type": (("page_visit",), _with(event_type="page_vist")),
    "timestamp_without_zone": (("detail_pageview",), _no_zone),
    "not_json": ((), lambda line: line[: len(line) // 2]),
    "conflict": (("add_to_cart",), _with(quantity=99)),
    DUPLICATE: ((), lambda line: line),
}
