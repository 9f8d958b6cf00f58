"""What event files can support, and why not: models, KPIs and the go-live, judged by what the files hold.

What belongs here: the judgements and what each needs. What does not: counting (profile_queries.py), the state of an
installation that runs (readiness.py). The minima are [R]: below them a number or a model exists, and says nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from recoflow.errors import ConfigurationError
from recoflow.event_quality import profile_queries as counting
from recoflow.event_quality import readiness
from recoflow.event_quality.profile_queries import Facts
from recoflow.ingest import dry_run
from recoflow.ingest.dry_run import Watch, unwatched
from recoflow.schema import Counts
from recoflow.settings.environment import Environment
from recoflow.storage import sql

MIN_SUBJECTS: Final = 20  # with two items or more: whose taste can be compared
MIN_ITEMS: Final = 10  # with two subjects or more
MIN_DAYS: Final = 2  # a trend is today against before
MIN_SHARE: Final = 0.8  # of rows that must carry a field, or find their partner

REQUIRED: Final = ("before_placements", "live_placements")


@dataclass(frozen=True)
class Need:
    """One thing that something needs: whether it is there, and how that is told."""

    is_met: bool
    found: str


@dataclass(frozen=True)
class Support:
    """Whether the files support a model, a KPI or a step of the go-live."""

    name: str
    kind: str  # model | kpi | go-live
    is_possible: bool
    reason: str  # what was found when it is possible, else what is missing


@dataclass(frozen=True)
class FileCounts:
    """What became of the events of one file."""

    file: str
    read: int
    accepted: int
    quarantined: int
    duplicates: int


@dataclass(frozen=True)
class Profile:
    """All that is told of some files."""

    files: tuple[FileCounts, ...]
    counts: Counts
    reasons: pl.DataFrame  # code, events, example (its message): why events were refused, the most frequent first
    facts: Facts
    verdicts: tuple[Support, ...]

    def failed(self, required: Sequence[str] = REQUIRED) -> list[Support]:
        """Those of the required verdicts that are not possible.

        Raises:
            ConfigurationError: a name that no verdict has.
        """
        by_name = {verdict.name: verdict for verdict in self.verdicts}
        for name in required:
            if name not in by_name:
                close = difflib.get_close_matches(name, by_name, n=1)
                cure = f"Did you mean '{close[0]}'?" if close else f"Known are {', '.join(by_name)}"
                raise ConfigurationError(f"'{name}'", "is nothing that a profile tells of", cure)
        return [by_name[name] for name in required if not by_name[name].is_possible]

    def as_json(self) -> dict[str, Any]:
        """Plain values; times are datetime and date."""
        told = asdict(self.facts)
        verdicts = [asdict(verdict) for verdict in self.verdicts]
        files = [asdict(each) for each in self.files]
        return {**vars(self.counts), "files": files, "refused": self.reasons.to_dicts(), **told, "verdicts": verdicts}


def profile(
    paths: Sequence[Path], environment: Environment, received_at: datetime, *, watch: Watch = unwatched
) -> Profile:
    """Read files as an ingest would, and tell what they support; nothing is kept.

    Args:
        paths: files of events and items.
        environment: its vocabulary, weights and thresholds.
        received_at: now, with a zone.
        watch: sees the batches of each file pass.

    Raises:
        SourceError: a file cannot be read at all.
    """
    with dry_run.trial(paths, environment, received_at, watch=watch) as made, sql.connect() as connection:
        made.lake.views(connection)
        found = counting.gather_facts(connection, environment, received_at)
        reasons = made.rejects().group_by("code", maintain_order=True)
        return Profile(
            files=tuple(FileCounts(report.name, **vars(report.counts)) for report in made.reports),
            counts=made.counts,
            reasons=reasons.agg(events=pl.len(), example=pl.col("message").first()).sort(
                "events", descending=True, maintain_order=True
            ),
            facts=found,
            verdicts=tuple(_verdict(name, kind, needs(found)) for (name, kind), needs in NEEDS.items()),
        )


def _verdict(name: str, kind: str, needs: Sequence[Need]) -> Support:
    missing = [need.found for need in needs if not need.is_met]
    return Support(name, kind, not missing, "; ".join(missing or (need.found for need in needs if need.found)))


def _at_least(number: int, minimum: int, what: str) -> Need:
    if number >= minimum:
        return Need(True, f"{number:,} {what}")
    return Need(False, f"{what}: {number:,}, at least {minimum:,} are needed" if number else f"no {what}")


def _share(share: float | None, what: str) -> Need:
    """A share of nothing is enough: that there is something is another need."""
    if share is None:
        return Need(True, "")
    enough = share >= MIN_SHARE
    return Need(enough, f"{share:.0%} of {what}" + ("" if enough else f", {MIN_SHARE:.0%} are needed"))


def _sent(facts: Facts, *event_types: str) -> list[Need]:
    return [_at_least(facts.events_of(name), 1, f"{name} events") for name in event_types]


def _joined(facts: Facts, name: str, what: str) -> Need:
    return _share(facts.join(name).share, what)


def _musts(facts: Facts, priority: str) -> list[Need]:
    """Each event type of the priority has been seen and carries what attributes it."""
    return [
        Need(
            each.state == "ready",
            f"{each.events:,} {each.event_type}"
            if each.state == "ready"
            else f"{each.event_type}: {each.state}"
            + (f" ({each.weakest_field} is often absent)" if each.weakest_field else ""),
        )
        for each in facts.event_types
        if each.priority == priority
    ]


def _popular(facts: Facts) -> list[Need]:
    return [_at_least(facts.interactions.pairs, 1, "interactions with items")]


def _trending(facts: Facts) -> list[Need]:
    return [*_popular(facts), _at_least(facts.times.days, MIN_DAYS, "days with events")]


def _newest(facts: Facts) -> list[Need]:
    return [
        _at_least(facts.catalogue.items, 1, "items in the catalogue"),
        _share(facts.catalogue.with_publication, "items with a publication_datetime"),
    ]


def _collaborative(facts: Facts) -> list[Need]:
    found = facts.interactions
    return [
        _at_least(found.repeat_subjects, MIN_SUBJECTS, "people with two items or more"),
        _at_least(found.repeat_items, MIN_ITEMS, "items with two people or more"),
    ]


def _metadata(facts: Facts) -> list[Need]:
    return [
        _at_least(len(facts.catalogue.attributes), 1, "item attributes"),
        _at_least(facts.join("items_to_the_catalogue").looked_for, 1, "items in events"),
        _joined(facts, "items_to_the_catalogue", "items in events are in the catalogue"),
    ]


def _ctr(facts: Facts) -> list[Need]:
    return [
        *_sent(facts, "impression", "click_on_recommendation"),
        _joined(facts, "clicks_to_their_impression", "clicks find their impression"),
    ]


def _conversion(facts: Facts) -> list[Need]:
    join = facts.join("purchases_to_a_click_before")
    clicks = sum(map(facts.events_of, ("click_on_recommendation", "batch_click_on_recommendation")))
    return [
        *_sent(facts, "purchase"),
        _at_least(clicks, 1, "clicks on recommendations"),
        _at_least(join.found, 1, "purchases that follow a click of the same person on the same item"),
    ]


def _batch(facts: Facts) -> list[Need]:
    return [
        *_sent(facts, "batch_impression", "batch_click_on_recommendation"),
        _joined(facts, "batch_clicks_to_their_impression", "batch clicks find their impression"),
    ]


def _versions(facts: Facts) -> list[Need]:
    return [*_ctr(facts), _share(facts.fields.impressions_with_version, "impressions with version or user_group")]


NEEDS: Final[dict[tuple[str, str], Callable[[Facts], list[Need]]]] = {
    ("before_placements", "go-live"): lambda facts: _musts(facts, readiness.BEFORE),
    ("live_placements", "go-live"): lambda facts: _musts(facts, readiness.LIVE),
    ("batch_campaigns", "go-live"): lambda facts: _sent(
        facts, "batch_open", "batch_impression", "batch_click_on_recommendation"
    ),
    ("popular", "model"): _popular,
    ("trending", "model"): _trending,
    ("newest", "model"): _newest,
    ("collaborative_filtering", "model"): _collaborative,
    ("item_metadata", "model"): _metadata,
    ("ctr", "kpi"): _ctr,
    ("conversion", "kpi"): _conversion,
    ("revenue", "kpi"): lambda facts: [
        *_sent(facts, "purchase"),
        _share(facts.fields.purchases_with_price, "purchases with a price"),
    ],
    ("batch_attribution", "kpi"): _batch,
    ("open_rate", "kpi"): lambda facts: _sent(facts, "batch_open"),
    ("comparison_of_versions", "kpi"): _versions,
}
