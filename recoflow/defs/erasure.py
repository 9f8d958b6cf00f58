"""Requests to forget people, by SFTP, API or local file, carried out within an ingest, so that no other is at work."""

import os
from collections.abc import Sequence
from dataclasses import replace

import dagster as dg

from recoflow.defs.resources import Installation
from recoflow.erasure import erase, erasure_requests, request_file
from recoflow.errors import RecoflowError, SourceError
from recoflow.ingest import file_hash
from recoflow.ingest.file_hash import ArrivalError, ChangedFileError
from recoflow.ingest.pending_files import PendingFile
from recoflow.printable import printable
from recoflow.settings import environment as environments
from recoflow.settings.environment import Environment
from recoflow.storage.paths import Paths
from recoflow.storage.sftp.mailbox import Mailbox


def split(arrived: Sequence[PendingFile]) -> tuple[list[PendingFile], list[PendingFile]]:
    """Files of events and items, and requests to forget people."""
    asked = [arrival for arrival in arrived if request_file.is_request(arrival.name)]
    others = [arrival for arrival in arrived if arrival not in asked]
    return others, [replace(arrival, status=None) for arrival in asked]  # who carries one out changes its file


def carry_out(
    context: dg.AssetExecutionContext,
    installation: Installation,
    environment: Environment,
    mailbox: Mailbox,
    asked: Sequence[PendingFile],
) -> tuple[list[dict[str, object]], list[str], list[RecoflowError]]:
    """Forget the people of each request.

    Returns a row for each that was carried out, why others were refused, and what is wrong with the installation so
    that the rest could not be: they wait for the next ingest, as does a request after which something remains.
    """
    rows: list[dict[str, object]] = []
    refused: list[str] = []
    failures: list[RecoflowError] = []
    for arrival in [*_unfinished(installation, environment), *asked]:
        try:
            rows.append(_carry_out_one(context, installation, environment, mailbox, arrival))
        except (SourceError, ArrivalError, ChangedFileError) as error:
            context.log.warning(str(error))
            refused.append(str(error))
        except RecoflowError as error:
            context.log.warning(str(error))  # an alert at the end of the run
            failures.append(error)
    return rows, refused, failures


def _carry_out_one(
    context: dg.AssetExecutionContext,
    installation: Installation,
    environment: Environment,
    mailbox: Mailbox,
    arrival: PendingFile,
) -> dict[str, object]:
    """What was done for one request.

    Raises:
        SourceError: it was refused, and its sender gets the reason.
        RecoflowError: it waits for the next ingest.
    """
    layout = installation.layout
    try:
        report = _forget(installation, environment, arrival)
    except SourceError as error:
        erasure_requests.refuse(layout, environment.name, arrival.name, str(error))
        arrival.refuse(mailbox, str(error))
        raise
    if report.is_forgotten:
        erasure_requests.finish(layout, environment.name, arrival.name, report)
        _end(arrival, layout, environment, mailbox)
    else:
        left = ", ".join(report.remaining)
        context.log.warning(f"{arrival.name}: still mentioned in {left}; the next ingest erases again")
        erasure_requests.put_aside(layout, environment.name, arrival.name, arrival.path, report)
        if arrival.claim_id is not None:
            mailbox.consume(arrival.claim_id)
        elif not _is_unfinished(arrival, layout, environment):
            arrival.path.unlink()
    return {
        "request": printable(arrival.name),
        "users": report.user_ids,
        "devices": report.device_ids,
        "removed": sum(removal.count for removal in report.removals),
        "files searched": report.files_searched,
        "still mentioned in": ", ".join(report.remaining),
    }


def _unfinished(installation: Installation, environment: Environment) -> list[PendingFile]:
    folder = erasure_requests.unfinished(installation.layout, environment.name)
    return [PendingFile(path.name, path) for path in sorted(folder.glob("*"))] if os.access(folder, os.R_OK) else []


def _is_unfinished(arrival: PendingFile, layout: Paths, environment: Environment) -> bool:
    return arrival.path.parent == erasure_requests.unfinished(layout, environment.name)


def _end(arrival: PendingFile, layout: Paths, environment: Environment, mailbox: Mailbox) -> None:
    if _is_unfinished(arrival, layout, environment):
        arrival.path.unlink()
    else:
        arrival.done(mailbox)


def _forget(installation: Installation, environment: Environment, arrival: PendingFile) -> erase.Report:
    layout = installation.layout
    erasure_requests.begin(layout, environment.name, arrival.name)
    with file_hash.steady(arrival.path, arrival.name):
        users, devices = request_file.read_request_file(arrival.path, arrival.name)
    lakes = {each.name: installation.lake(each) for each in environments.load_all(layout.environments)}
    return erase.erase(layout, environment, lakes, user_ids=users, device_ids=devices, request=arrival.path)
