"""Rows of a request file that ask for audiences: one row, the people to whom its items fit best.

What belongs here: the rules about such rows. What does not: header and cells (see `csv_reader`), rules about lists (see
`list_rows`), who is chosen (see `audiences.select`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import polars as pl

from recoflow.campaigns.lists import item_filters
from recoflow.campaigns.requests import columnwise, csv_reader
from recoflow.campaigns.requests.row_rules import (
    SHOWN,
    VARIABLE,
    RowErrors,
    RowRule,
    UnknownColumns,
    bad_size,
    is_sound,
    quoted_cell,
    split_valid,
)
from recoflow.formats.fields import BLANK

if TYPE_CHECKING:
    from recoflow.campaigns.audiences.select import AudienceItems, ItemObstacle
    from recoflow.campaigns.requests.csv_reader import RequestCells
    from recoflow.campaigns.requests.model import Request
    from recoflow.settings.environment import Campaigns

ROWS: Final = pl.Schema(
    {
        "row": pl.Int64,  # 0, 1, … over the accepted rows
        "line": pl.Int64,
        "audience_name": pl.String,
        "item_id": pl.String,  # as asked: an id, or a JSON array of ids
        "audience_size": pl.Int64,
    }
)
AUDIENCE: Final = ("audience_name", "item_id")
MEANINGLESS: Final = "means nothing in a request for audiences. Remove it, or name it in `campaigns.variables`"


def judge_audience_rows(
    empty: Request, read: RequestCells, campaigns: Campaigns, catalogue: AudienceItems | None
) -> Request:
    """The request with the accepted rows and the errors of the others.

    Args:
        empty: the request without rows.
        read: the file.
        campaigns: the environment's.
        catalogue: the items that may be asked for; None when there are none.

    Raises:
        RequestRejectedError: `too_many_items`.
    """
    declared = (*csv_reader.AUDIENCE_COLUMNS, *campaigns.variables)
    unknown = [column for column in read.header if column not in declared]
    strange = [pl.col(column).alias(VARIABLE + column) for column in unknown]
    strangers, errors = UnknownColumns(unknown, MEANINGLESS), RowErrors()
    count, blocks = 0, [ROWS.to_frame().drop("row")]
    for block in read.blocks:
        count += len(block)
        rows = block.select(
            pl.col(csv_reader.LINE).alias("line"),
            "audience_name",
            csv_reader.stripped_text("item_id"),
            "audience_size",
            *strange,
        )
        problems = [*_item_problems(rows["item_id"], catalogue), bad_size("audience_size", campaigns.max_audience_size)]
        sound = split_valid(rows, problems, errors)
        sound = strangers.sift(rows, sound).with_columns(pl.col("audience_size").str.strip_chars(BLANK).cast(pl.Int64))
        blocks.append(sound)
    sound = pl.concat(blocks)
    del blocks
    if not columnwise.is_distinct(sound, AUDIENCE):
        sound = columnwise.kept(sound, is_sound(sound, [_duplicate(sound)], errors))
    strangers.tell(errors)
    csv_reader.check_volume(sound["audience_size"], campaigns.max_items)
    counts = replace(
        empty.counts, read=count, accepted=len(sound), failed=count - len(sound), headers_repeated=len(read.repeated)
    )
    return replace(
        empty,
        rows=sound.insert_column(0, pl.int_range(len(sound), eager=True).alias("row"))[ROWS.names()],
        errors=errors.listed(),
        counts=counts,
        is_for_audiences=True,
    )


def _item_problems(asked: pl.Series, catalogue: AudienceItems | None) -> list[RowRule]:
    cell = pl.col("item_id")
    distinct = asked.drop_nulls().unique().sort()
    unreadable = [text for text in distinct if not item_filters.is_list_of_values(text)]
    items = {text: item_filters.values(text) for text in distinct if text not in set(unreadable)}
    named = {item for each in items.values() for item in each}
    obstacles = catalogue.obstacles(named) if catalogue else {}
    found: dict[str, dict[str, str]] = {}  # code → cell → what is said about it
    for text, each in items.items():
        for item in sorted(set(each) & obstacles.keys())[:1]:
            found.setdefault(obstacles[item].code, {})[text] = _message(item, obstacles[item])
    return [
        RowRule("missing_item_id", "item_id", cell.is_null(), pl.lit("item_id is empty.")),
        RowRule(
            "bad_item_id",
            "item_id",
            cell.is_in(unreadable),
            pl.format('\'{}\' is not a JSON array of item ids, like ["a","b"].', quoted_cell("item_id")),
        ),
        *(_obstructed(code, messages) for code, messages in sorted(found.items())),
    ]


def _message(item: str, obstacle: ItemObstacle) -> str:
    return f"Item '{item[:SHOWN]}' {obstacle.problem}. {obstacle.cure}."


def _obstructed(code: str, messages: Mapping[str, str]) -> RowRule:
    cell = pl.col("item_id")
    message = cell.replace_strict(messages, default="", return_dtype=pl.String)
    return RowRule(code, "item_id", cell.is_in(list(messages)), message)


def _duplicate(rows: pl.DataFrame) -> RowRule:
    message = "An audience of this name for these items stands in an earlier row, which is answered."
    return RowRule("duplicate_audience", "item_id", pl.lit(columnwise.is_repeated(rows, AUDIENCE)), pl.lit(message))
