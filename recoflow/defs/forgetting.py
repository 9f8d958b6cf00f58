"""Requests to forget people, by SFTP, API or local file, carried out within an ingest, so that no other is at work."""

from collections.abc import Sequence
from dataclasses import replace

import dagster as dg

from recoflow import environment as environments
from recoflow.defs.resources import Installation
from recoflow.environment import Environment
from recoflow.errors import SourceError
from recoflow.events import arriving
from recoflow.events.arriving import ArrivalError, ChangedFileError
from recoflow.events.inbox import Arrival
from recoflow.privacy import cases, forget, request
from recoflow.storage.mailbox import Mailbox


def split(arrived: Sequence[Arrival]) -> tuple[list[Arrival], list[Arrival]]:
    """Files of events and items, and requests to forget people."""
    asked = [arrival for arrival in arrived if request.is_request(arrival.name)]
    others = [arrival for arrival in arrived if arrival not in asked]
    return others, [replace(arrival, status=None) for arrival in asked]  # who carries one out changes its file


def carry_out(
    context: dg.AssetExecutionContext,
    installation: Installation,
    environment: Environment,
    mailbox: Mailbox,
    asked: Sequence[Arrival],
) -> tuple[list[dict[str, object]], list[str]]:
    """Forget the people of each request; returns a row for each, and why the others were refused."""
    rows, refused = [], []
    layout = installation.layout
    for arrival in asked:
        try:
            report = _forget(installation, environment, arrival)
            cases.finish(layout, environment.name, arrival.name, report)
            arrival.done(mailbox)
        except SourceError as error:
            context.log.warning(str(error))
            cases.refuse(layout, environment.name, arrival.name, str(error))
            arrival.refuse(mailbox, str(error))
            refused.append(str(error))
            continue
        except (ArrivalError, ChangedFileError) as error:  # it waits for the next run
            context.log.warning(str(error))
            refused.append(str(error))
            continue
        if not report.is_forgotten:
            cure = "run `recoflow forget` for the same ids when what is pending has been ingested"
            context.log.error(f"{arrival.name}: still mentioned in {', '.join(report.remaining)}; {cure}")
        rows.append(
            {
                "request": arrival.name,
                "users": report.user_ids,
                "devices": report.device_ids,
                "removed": sum(removal.count for removal in report.removals),
                "files searched": report.files_searched,
                "still mentioned in": ", ".join(report.remaining),
            }
        )
    return rows, refused


def _forget(installation: Installation, environment: Environment, arrival: Arrival) -> forget.Report:
    layout = installation.layout
    cases.begin(layout, environment.name, arrival.name)
    with arriving.steady(arrival.path, arrival.name):
        users, devices = request.read(arrival.path, arrival.name)
    lakes = {each.name: installation.lake(each) for each in environments.load_all(layout.environments)}
    return forget.forget(layout, environment, lakes, user_ids=users, device_ids=devices, request=arrival.path)
