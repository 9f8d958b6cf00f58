"""The sample world: a seeded, believable publisher, "Lorem Daily", for the demo and for tests.

What belongs here: putting the parts together, and writing them as the files that a publisher would deliver. What does
not: how readers behave (traffic, readers), what the items are (newsroom, vocabulary), broken lines (dirt).

Same arguments, same bytes: all chance comes from one seed, all times from `end`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from recoflow.sandbox import catalogue, noise, readers, sessions, traffic
from recoflow.schema import Counts

ENVIRONMENT: Final = "lorem"
LISTS: Final[Mapping[str, int]] = {"Relevant for you this week": 5, "Discover this": 5}
_LIST_COLUMNS: Final = ("categories", "tags", "images")


@dataclass(frozen=True)
class World:
    """What was generated, and what a correct ingest of its files must count."""

    end: datetime
    users: tuple[str, ...]  # all user ids; a few of them never came
    items: pl.DataFrame  # columns of the item file, lists as lists
    events: pl.DataFrame  # valid and distinct, sorted by time; the columns are `traffic.COLUMNS`
    dirt: pl.DataFrame  # lines that must not count: row (of the event before), kind, line
    expected: Counts  # of all event files together


def generate(
    *,
    seed: int = 7,
    users: int = 5_000,
    items: int = 2_000,
    events: int = 200_000,
    days: int = 60,
    end: datetime,
) -> World:
    """Make a world whose last event is before `end`.

    Args:
        seed: of all chance.
        users: readers with a user id; anonymous visitors come on top (15 %).
        items: articles and products.
        events: valid, distinct events of all fifteen types; broken and repeated lines come on top (0.03 %).
        days: before `end` that the events are spread over.
        end: with a zone.

    Raises:
        ValueError: when `end` has no zone, or a size is too small to show every event type.
    """
    if end.tzinfo is None:
        raise ValueError("end has no time zone; pass e.g. datetime(2026, 11, 22, tzinfo=UTC)")
    if users < 5 or items < 15 or events < 150 or days < 2:
        sizes = f"{users} users, {items} items, {events} events and {days} days"
        raise ValueError(f"{sizes} are too few to show every event type; give at least 5, 15, 150 and 2")
    end = end.astimezone(UTC)
    begin = end - timedelta(days=days)
    random = np.random.default_rng(seed)
    published = catalogue.publish(random, items, begin, end)
    audience = readers.make_readers(random, users, published)
    frame = traffic.simulate(sessions.scene(random, published, audience, begin, end), events)
    spilt = noise.spill(random, frame)
    duplicates = spilt.filter(kind=noise.DUPLICATE).height
    return World(
        end=end,
        users=tuple(audience.user_ids),
        items=published.frame,
        events=frame,
        dirt=spilt,
        expected=Counts(events + spilt.height, events, spilt.height - duplicates, duplicates),
    )


def write_world(world: World, folder: Path, *, days_per_file: int = 1) -> dict[str, Counts]:
    """Write the files that a publisher would deliver; purchases come as CSV from the shop, the rest as JSON lines.

    Files: `lorem_items_<day>.csv`, `lorem_events_<day>.jsonl` and `lorem_purchases_<day>.csv`, for each UTC day, or for
    the `days_per_file` days that begin with the one in the name.

    Returns:
        File name → what an ingest of it must count, when the files are read in the order of their days.
    """
    folder.mkdir(parents=True, exist_ok=True)
    date = pl.col("timestamp").dt.date()
    passed = (date - date.min()).dt.total_days()
    day = world.events.select(day=date - pl.duration(days=passed % days_per_file)).to_series()
    is_purchase = world.events["event_type"] == "purchase"
    counts = _write_lines(world, folder, day, is_purchase)
    purchases = world.events.with_columns(day).filter(is_purchase)
    for (when,), group in purchases.group_by("day", maintain_order=True):
        present = [name for name in traffic.COLUMNS if group[name].null_count() < group.height]
        name = f"{ENVIRONMENT}_purchases_{when}.csv"
        _write(folder / name, group.select(present).with_columns(pl.col("timestamp").dt.epoch("ms")).write_csv())
        counts[name] = Counts(group.height, group.height)
    last = (world.end - timedelta(microseconds=1)).date()
    name = f"{ENVIRONMENT}_items_{last}.csv"
    _write(folder / name, _item_rows(world.items).write_csv())
    counts[name] = Counts(world.items.height, world.items.height)
    return dict(sorted(counts.items()))


def request(
    world: World,
    users: Sequence[str] | None = None,
    *,
    lists: Mapping[str, int] = LISTS,
    page_type: str = "weekly_mail",
) -> str:
    """A campaign request as CSV text: every list for each of `users` (default: all), list by list.

    Args:
        world: gives the users.
        users: user ids, in the wanted order.
        lists: list_name → list_size.
        page_type: where the lists will be shown.
    """
    ids = world.users if users is None else users
    rows = [
        f'"{ENVIRONMENT}","{user_id}",,"{name}",{size},"{page_type}"\n'
        for name, size in lists.items()
        for user_id in ids
    ]
    return '"environment","user_id","device_id","list_name","list_size","page_type"\n' + "".join(rows)


def request_name(world: World) -> str:
    """File name of a request that is made when the world ends."""
    return f"{ENVIRONMENT}_{traffic.CAMPAIGN}_{world.end:%Y-%m-%dT%H:%M:%SZ}.csv"


def _write_lines(world: World, folder: Path, day: pl.Series, is_purchase: pl.Series) -> dict[str, Counts]:
    valid = pl.DataFrame({"day": day, "row": pl.Series(range(day.len()), dtype=pl.Int64)}).filter(~is_purchase)
    valid = valid.with_columns(line=noise.event_lines(world.events.filter(~is_purchase)), kind=pl.lit(None, pl.String))
    spilt = world.dirt.with_columns(day=day.gather(world.dirt["row"]))
    every = pl.concat([valid, spilt.select(valid.columns)]).sort("row", "kind", nulls_last=False, maintain_order=True)
    counts = {}
    for (when,), group in every.group_by("day", maintain_order=True):
        name = f"{ENVIRONMENT}_events_{when}.jsonl"
        _write(folder / name, "\n".join(group["line"]) + "\n")
        accepted, duplicates = group["kind"].null_count(), group.filter(kind=noise.DUPLICATE).height
        counts[name] = Counts(group.height, accepted, group.height - accepted - duplicates, duplicates)
    return counts


def _item_rows(items: pl.DataFrame) -> pl.DataFrame:
    return items.with_columns(pl.Series(name, map(json.dumps, items[name].to_list())) for name in _LIST_COLUMNS)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
