"""Assets of the events stage: what arrived, accepted or quarantined, with every event accounted for."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from logging import Logger

import dagster as dg

from recoflow import schema
from recoflow.defs import erasure, metadata, names
from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.errors import MailboxError, RecoflowError, SourceError
from recoflow.ingest import pending_files
from recoflow.ingest import quarantine as quarantined
from recoflow.ingest.file_hash import ArrivalError, ChangedFileError
from recoflow.ingest.pending_files import PendingFile
from recoflow.ingest.run import FileReport, ingest_file
from recoflow.printable import printable
from recoflow.settings.environment import Environment
from recoflow.storage.alerts import raise_alert
from recoflow.storage.lake.lake import Lake
from recoflow.storage.sftp.mailbox import Mailbox

QUARANTINED_SHARE = "quarantined_share"
FILES_READABLE = "files_readable"
SHOWN_REJECTS = 20
REJECT_COLUMNS = ("received_at", "file", "line", "field", "code")  # the other texts may have ids of people


def build_assets(environment: Environment) -> list[dg.AssetsDefinition]:
    """`events` and `quarantine` of one environment, filled by one step."""
    events, quarantine = names.asset_key(environment, "events"), names.asset_key(environment, "quarantine")
    shown = names.common_spec_args(environment, "events", {"polars", "deltalake"})

    @dg.multi_asset(
        name=f"{environment.name}__ingest",
        specs=[
            dg.AssetSpec(
                events,
                description="Accepted events of all sources; each event counts once, however often it was delivered.",
                metadata={"dagster/column_schema": metadata.column_schema(schema.EVENTS)},
                **shown,
            ),
            dg.AssetSpec(
                quarantine,
                description="Events that were refused: file, line, field, code, message and the raw text.",
                metadata={"dagster/column_schema": metadata.column_schema(schema.REJECTS)},
                **shown,
            ),
        ],
        check_specs=[
            dg.AssetCheckSpec(
                QUARANTINED_SHARE,
                asset=events,
                description="The share of this run's events that were quarantined stays under the threshold.",
            ),
            dg.AssetCheckSpec(
                FILES_READABLE, asset=events, description="Every file of this run could be read as events or items."
            ),
        ],
        pool=f"{environment.name}_ingest",
        can_subset=True,  # whichever of the two is asked for, the step is the same
    )
    def ingest(context: dg.AssetExecutionContext, installation: Installation) -> Iterator[dg.MaterializeResult]:
        lake = installation.lake(environment)
        quiet = environment.sftp.quiet_seconds
        with installation.mailbox(environment) as mailbox:
            folder = installation.layout.inbox(environment.name)
            arrived, asked = erasure.split(pending_files.pending_files(mailbox, folder, quiet, now()).arrivals)
            segments = pending_files.segments(installation.layout.spool(environment.name))
            taking = _Taking(environment, lake, mailbox, context.log)
            for arrival in [*segments, *arrived]:
                taking.take(arrival)
            forgotten, unclear, failed = erasure.carry_out(context, installation, environment, mailbox, asked)
            taking.failures += failed
        reports, refused = taking.reports, [*taking.refused, *map(str, taking.failures), *unclear]
        counts = sum((report.counts for report in reports), schema.Counts())
        of_events: dg.MaterializeResult = dg.MaterializeResult(
            asset_key=events,
            metadata={
                "dagster/row_count": metadata.row_count(lake, "events"),
                "dagster/table_name": f"{environment.name}.events",
                "read": counts.read,
                "accepted": counts.accepted,
                "quarantined": counts.quarantined,
                "duplicates": counts.duplicates,
                "files": metadata.table([_file_row(report) for report in reports]),
                "forgotten": metadata.table(forgotten),
                "preview": metadata.preview(lake.scan("events").head(metadata.PREVIEW_ROWS).collect()),
            },
            check_results=[_quarantined_share(environment, counts, events), _files_readable(refused, events)],
        )
        codes = quarantined.by_code(lake)
        latest = quarantined.listing(lake, limit=SHOWN_REJECTS).select(REJECT_COLUMNS)
        of_quarantine: dg.MaterializeResult = dg.MaterializeResult(
            asset_key=quarantine,
            metadata={
                "dagster/row_count": int(codes["events"].sum()),
                "dagster/table_name": f"{environment.name}.quarantine",
                "codes": metadata.preview(codes, codes.height),
                "latest": metadata.preview(latest, SHOWN_REJECTS),
            },
        )
        yield from (each for each in (of_events, of_quarantine) if each.asset_key in context.selected_asset_keys)
        for error in taking.failures:
            raise_alert(installation.layout.alerts, error, now(), environment.name)
        if taking.failures:  # what is in goes on its way; the files that are not wait for a run after a pause
            context.instance.add_run_tags(context.run.run_id, {names.UNTAKEN_TAG: str(len(taking.failures))})

    return [ingest]


@dataclass
class _Taking:
    """Files that are taken in one after the other; what is wrong with one keeps none of the others out."""

    environment: Environment
    lake: Lake
    mailbox: Mailbox
    log: Logger
    reports: list[FileReport] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # files that cannot be read as events
    failures: list[RecoflowError] = field(default_factory=list)  # files that the installation could not take

    def take(self, arrival: PendingFile) -> None:
        """Take one file in.

        Raises:
            StorageError: the lake cannot be read or written.
        """
        try:
            self._take(arrival)
        except ChangedFileError as error:
            self.log.warning(str(error))  # it waits, and is quiet again before it is taken
        except (ArrivalError, MailboxError) as error:
            self.log.warning(str(error))  # an alert at the end of the run
            self.failures.append(error)

    def _take(self, arrival: PendingFile) -> None:
        received_at, name, dialect = arrival.received_at(now()), arrival.name, arrival.dialect
        try:
            report = ingest_file(arrival.path, self.environment, self.lake, received_at, name=name, dialect=dialect)
        except SourceError as error:
            self.log.warning(str(error))
            self.refused.append(str(error))
            arrival.refuse(self.mailbox, str(error))
            return
        self.log.info(f"{printable(arrival.name)}: {report.counts}")
        self.reports.append(report)
        arrival.done(self.mailbox)


def _file_row(report: FileReport) -> dict[str, object]:
    counts = report.counts
    return {
        "file": report.name,
        "read": counts.read,
        "accepted": counts.accepted,
        "quarantined": counts.quarantined,
        "duplicates": counts.duplicates,
        "seen before": report.was_known,
        "ignored keys": ", ".join(f"{name} ({times})" for name, times in sorted(report.ignored_keys.items())),
    }


def _files_readable(refused: list[str], key: dg.AssetKey) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=FILES_READABLE,
        passed=not refused,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"refused": len(refused), "errors": metadata.harmless_text("\n".join(refused))},
    )


def _quarantined_share(environment: Environment, counts: schema.Counts, key: dg.AssetKey) -> dg.AssetCheckResult:
    share = counts.quarantined / counts.read if counts.read else 0.0
    limit = environment.quality.max_quarantined_share
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=QUARANTINED_SHARE,
        passed=share <= limit,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"share": share, "limit": limit},
    )
