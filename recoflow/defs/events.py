"""Assets of the events stage: what arrived, accepted or quarantined, with every event accounted for."""

from collections.abc import Iterator

import dagster as dg

from recoflow import schema
from recoflow.defs import forgetting, metadata, names
from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.environment import Environment
from recoflow.errors import SourceError
from recoflow.events import inbox
from recoflow.events import quarantine as quarantined
from recoflow.events.arriving import ChangedFileError
from recoflow.events.ingest import FileReport, ingest_file
from recoflow.printable import printable

QUARANTINED_SHARE = "quarantined_share"
FILES_READABLE = "files_readable"
SHOWN_REJECTS = 20
REJECT_COLUMNS = ("received_at", "file", "line", "field", "code")  # the other texts may have ids of people


def build_assets(environment: Environment) -> list[dg.AssetsDefinition]:
    """`events` and `quarantine` of one environment, filled by one step."""
    events, quarantine = names.key(environment, "events"), names.key(environment, "quarantine")
    shown = names.shown(environment, "events", {"polars", "deltalake"})

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
        reports, refused = [], []
        with installation.mailbox(environment) as mailbox:
            arrived, asked = forgetting.split(
                inbox.waiting(mailbox, installation.layout.inbox(environment.name), quiet, now())
            )
            for arrival in [*inbox.segments(installation.layout.spool(environment.name)), *arrived]:
                received_at, name, dialect = arrival.received_at(now()), arrival.name, arrival.dialect
                try:
                    report = ingest_file(arrival.path, environment, lake, received_at, name=name, dialect=dialect)
                except ChangedFileError as error:
                    context.log.warning(str(error))  # it waits, and is quiet again before it is taken
                    continue
                except SourceError as error:  # one unreadable file must not keep the others out
                    context.log.warning(str(error))
                    arrival.refuse(mailbox, str(error))
                    refused.append(str(error))
                    continue
                context.log.info(f"{printable(arrival.name)}: {report.counts}")
                arrival.done(mailbox)
                reports.append(report)
            forgotten, unclear = forgetting.carry_out(context, installation, environment, mailbox, asked)
            refused += unclear
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

    return [ingest]


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
        metadata={"refused": len(refused), "errors": metadata.text("\n".join(refused))},
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
