"""`recoflow profile`: what files support, as a report for people or as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recoflow.commands import terminal
from recoflow.commands.terminal import DATA, AsJson, Data, Files

if TYPE_CHECKING:
    from recoflow.event_quality.profile import Profile
    from recoflow.event_quality.profile_queries import Facts
    from recoflow.settings.environment import Environment

KINDS = {"go-live": "Go-live", "model": "Models", "kpi": "KPIs"}
SHOWN_ATTRIBUTES = 12


def profile(
    paths: Files,
    environment: Annotated[
        str | None,
        typer.Option("--environment", "-e", help="Take vocabulary and weights from it; recoflow's defaults without."),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(help="What must be possible for exit code 0; by default both musts of the go-live. Repeatable."),
    ] = None,
    is_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Tell what files of events and items support and why not; exit 1 when something required is not possible."""
    from recoflow.event_quality import profile as profiles

    settings = terminal.environment_of(environment, data) if environment else _defaults()
    with terminal.reading(paths) as watch:
        found = profiles.profile(paths, settings, datetime.now(UTC), watch=watch)
    failed = found.failed(require or profiles.REQUIRED)
    if is_json:
        terminal.print_json(found.as_json())
    else:
        _show(found)
        for verdict in failed:
            terminal.errors.print(f"[bold red]{verdict.name}[/bold red] {verdict.reason}", soft_wrap=True)
    if failed:
        raise typer.Exit(1)


def _defaults() -> Environment:
    """Recoflow's defaults for a profile before there is an environment; nothing is connected to."""
    from recoflow.settings.environment import Environment
    from recoflow.settings.sections import Sftp

    unused = Path("unused")
    return Environment(name="profile", sftp=Sftp(username="unused", private_key=unused, known_hosts=unused))


def _show(found: Profile) -> None:
    names = ("read", "accepted", "quarantined", "duplicates")
    rows = [(each.file, *(getattr(each, name) for name in names)) for each in found.files]
    terminal.table("Files", rows, ("file", *names))
    if found.reasons.height:
        terminal.table("Refused", found.reasons.iter_rows(), found.reasons.columns)
    _show_facts(found.facts)
    for kind, title in KINDS.items():
        verdicts = [verdict for verdict in found.verdicts if verdict.kind == kind]
        shown = [(verdict.name, "yes" if verdict.is_possible else "no", verdict.reason) for verdict in verdicts]
        terminal.table(title, shown, ("name", "possible", "why"))


def _show_facts(facts: Facts) -> None:
    seen = [
        (each.priority, each.event_type, each.state, each.events, _percent(each.with_user), _percent(each.attributed))
        for each in facts.event_types
    ]
    terminal.table("Event types", seen, ("priority", "event type", "state", "events", "with user", "attributed"))
    joins = [(each.name.replace("_", " "), each.looked_for, each.found, _percent(each.share)) for each in facts.joins]
    terminal.table("Joins", joins, ("join", "rows", "found", "share"))
    terminal.table("People, time and items", _summary(facts), ("", "found"))


def _summary(facts: Facts) -> list[tuple[str, str]]:
    who, times, catalogue, pairs = facts.identity, facts.times, facts.catalogue, facts.interactions
    attributes = [f"{name} {_percent(share)}" for name, share in catalogue.attributes.items()]
    return [
        ("events that name a user", _percent(who.with_user)),
        ("… a device", _percent(who.with_device)),
        ("… both", _percent(who.with_both)),
        ("anonymous events", _percent(who.anonymous)),
        ("… on the device of a known user", _percent(who.anonymous_but_known)),
        ("users", f"{who.users:,}"),
        ("devices", f"{who.devices:,}, {who.shared_devices:,} of them of several users"),
        ("first event (UTC)", terminal.cell(times.first_at)),
        ("last event", terminal.cell(times.last_at)),
        ("days with events", f"{times.days:,}"),
        ("longest gaps", ", ".join(f"{gap.first} to {gap.last}" for gap in times.gaps) or "none"),
        ("interactions", f"{pairs.pairs:,} of {pairs.subjects:,} people with {pairs.items:,} items"),
        (
            "… per person",
            f"median {pairs.per_subject_median or 0:g}, 90th percentile {pairs.per_subject_p90 or 0:g}, "
            f"maximum {pairs.per_subject_max or 0:,}",
        ),
        ("catalogue", f"{catalogue.items:,} items, {catalogue.recommendable:,} can be recommended"),
        ("attributes of items", ", ".join(attributes[:SHOWN_ATTRIBUTES]) or "none"),
    ]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"
