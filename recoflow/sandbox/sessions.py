"""What visits are made of: the rhythm of the days, who comes with which device, and rows of events.

What belongs here: the pieces that every kind of visit shares. What does not: the kinds of visits themselves (traffic).

A visit is a row of a table (start, visitor, device, login); its events carry the visit's index, a step (their order
within the visit) and a gap (mean seconds since the event before).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recoflow.sandbox.catalogue import SampleCatalogue
from recoflow.sandbox.readers import Audience, pick, quota

LOGIN_SHARE: Final = 0.06  # of the visits log in midway
NEVER: Final = 10**6  # the login step of a visit that stays anonymous
HOURS: Final = (2, 1, 1, 1, 2, 5, 9, 13, 12, 9, 8, 9, 12, 10, 8, 8, 9, 11, 13, 14, 15, 13, 9, 5)
WEEKDAYS: Final = (1.1, 1.05, 1.0, 1.0, 0.95, 0.75, 0.85)  # Monday first

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Table = dict[str, Any]  # column name → array or one value for all rows


@dataclass(frozen=True)
class Sessions:
    """Visits and their events; `visit` in `events` is a row of `visits`."""

    visits: pl.DataFrame
    events: pl.DataFrame


@dataclass(frozen=True)
class Scene:
    """Everything that the parts draw from."""

    random: np.random.Generator
    catalogue: SampleCatalogue
    audience: Audience
    begin: int  # epoch milliseconds
    end: int
    hour_steps: Floats  # running shares of the hours from `begin` on

    @property
    def users(self) -> int:
        """Number of users."""
        return self.audience.users


def scene(
    random: np.random.Generator, catalogue: SampleCatalogue, audience: Audience, begin: datetime, end: datetime
) -> Scene:
    """Join what the parts need, and the rhythm of the days between `begin` and `end`."""
    hours = (end - begin) // timedelta(hours=1)
    moments = [begin + timedelta(hours=i) for i in range(hours - 2)]  # a visit that begins late still ends in time
    steps = np.cumsum([HOURS[moment.hour] * WEEKDAYS[moment.weekday()] for moment in moments])
    first = catalogue.first
    return Scene(random, catalogue, audience, first, first + hours * 3_600_000, steps / steps[-1])


def begin_visits(stage: Scene, visitor: Integers, start: Integers | None = None) -> pl.DataFrame:
    """Visits of `visitor` at times by the rhythm of the days, unless `start` says when."""
    random, audience, count = stage.random, stage.audience, len(visitor)
    if start is None:
        hour = pick(stage.hour_steps, random.random(count))
        start = stage.begin + ((hour + random.random(count)) * 3_600_000).astype(np.int64)
    device = audience.devices[visitor, (random.random(count) * 3).astype(np.int64)]
    passed = (start - stage.begin) / (stage.end - stage.begin)
    login = np.where(passed >= audience.device_login[device], 0, NEVER)
    login[(login == NEVER) & (random.random(count) < LOGIN_SHARE)] = 15  # after the list, before any click
    borrowed = (visitor < audience.users) & (device != visitor) & (device < audience.users)
    login[borrowed] = 0  # who borrows a device is only known by logging in
    login[visitor >= audience.users] = NEVER
    return pl.DataFrame({"start": start, "visitor": visitor, "device": device, "login": login})


def rows(visit: Integers, step: Integers | int, event_type: str, gap: float, **columns: Any) -> pl.DataFrame:
    """Events of one type; a column is an array as long as `visit`, or one value for all."""
    step = np.broadcast_to(np.asarray(step, np.int64), visit.shape)
    arrays: Table = {"visit": visit, "step": step}
    values = {"event_type": event_type, "gap": gap}
    for name, value in columns.items():
        if isinstance(value, np.ndarray):
            arrays[name] = value
        else:
            values[name] = value
    return pl.DataFrame(arrays).with_columns(**{name: pl.lit(value) for name, value in values.items()})


def active(stage: Scene, count: int, visitors: int) -> Integers:
    """`count` visitors among the first `visitors`, the active ones more often."""
    steps = stage.audience.activity_steps[:visitors]
    return pick(steps / steps[-1], stage.random.random(count))


def tasted(stage: Scene, visitor: Integers, milliseconds: Integers) -> Integers:
    """An article for each visitor."""
    topic = stage.audience.taste(stage.random.random((len(visitor), 2)), visitor)
    return stage.catalogue.draw(stage.random.random(len(visitor)), topic, milliseconds)


def article_views(stage: Scene, visit: Integers, step: Integers, item: Integers, gap: float) -> list[pl.DataFrame]:
    """Detail page views and what some readers do there: a checkpoint at the end of the text, a like, a share."""
    random = stage.random
    read, acted = quota(random, len(visit), 0.08), quota(random, len(visit), 0.07)
    act = np.where(random.random(len(visit)) < 0.5, "like", np.where(random.random(len(visit)) < 0.5, "share", "save"))
    page = "article_detail"
    return [
        rows(visit, step, "detail_pageview", gap, item=item, page_type=page),
        rows(visit[read], step[read] + 1, "checkpoint", 70.0, item=item[read], checkpoint="read_100", page_type=page),
        rows(
            visit[acted], step[acted] + 2, "item_interaction", 15.0,
            item=item[acted], interaction_type=act[acted], page_type=page,
        ),
    ]  # fmt: skip


def show_lists(
    stage: Scene, visits: pl.DataFrame, size: int, is_popular: NDArray[np.bool_]
) -> tuple[Integers, Integers, Integers]:
    """A list of up to `size` different articles for each visit: visit, item and rank of each row, in order of rank."""
    random, count = stage.random, visits.height
    wide = np.repeat(np.arange(count), size + 2)
    topic = np.where(
        is_popular[wide],
        stage.audience.anything(random.random(len(wide))),
        stage.audience.taste(random.random((len(wide), 2)), visits["visitor"].to_numpy()[wide]),
    )
    item = stage.catalogue.draw(random.random(len(wide)), topic, visits["start"].to_numpy()[wide])
    table = item.reshape(count, size + 2)
    is_new = np.ones(table.shape, np.bool_)
    for column in range(1, size + 2):
        is_new[:, column] = (table[:, :column] != table[:, column : column + 1]).all(axis=1)
    rank = np.cumsum(is_new, axis=1, dtype=np.int64)
    kept = (is_new & (rank <= size)).ravel()
    return wide[kept], item[kept], rank.ravel()[kept]


def is_clicked(stage: Scene, visitor: Integers, item: Integers, rank: Integers, base: float) -> NDArray[np.bool_]:
    """Clicks fall with the rank and rise with the taste; the first item is clicked in any case, for small worlds."""
    likes = stage.audience.likes(visitor, stage.catalogue.topic[item])
    clicked = stage.random.random(len(item)) < base * np.where(likes, 1.0, 0.12) * rank**-0.6
    clicked[:1] = True
    return np.asarray(clicked)
