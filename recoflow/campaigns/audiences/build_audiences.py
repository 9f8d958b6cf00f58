"""Answering a request for audiences: the people for each row are chosen and staged on disk.

What belongs here: the order of the steps and what is staged. What does not: who is chosen (see `select`), and
publishing (see `campaigns.publishing`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from recoflow import schema
from recoflow.campaigns.audiences import select, staged_audiences
from recoflow.campaigns.lists import item_filters
from recoflow.campaigns.requests import identifiers
from recoflow.campaigns.requests.audience_rows import AUDIENCE
from recoflow.campaigns.staging import staged
from recoflow.compute.stage_timer import StageTimer
from recoflow.errors import CampaignError

if TYPE_CHECKING:
    from recoflow.campaigns.requests.model import Request
    from recoflow.models.store.bundle import Bundle
    from recoflow.settings.environment import Environment

PART_ROWS: Final = 1 << 20  # of a file, unless one audience is larger


def build_audiences(
    request: Request, bundle: Bundle, environment: Environment, staging: Path, *, stopwatch: StageTimer | None = None
) -> staged_audiences.StagedAudiences:
    """Choose and stage every audience of a request.

    Args:
        request: for audiences, not rejected.
        bundle: the model in service, brought up to date for everybody (see `freshness`).
        environment: of the request.
        staging: folder of this campaign; what an earlier attempt left in it is replaced.
        stopwatch: counts the stage `rank and stage`.

    Returns:
        What was staged: the same bytes for the same arguments.

    Raises:
        CampaignError: the request was rejected as a whole.
    """
    if request.rejection is not None:
        raise CampaignError(request.name, f"was refused: {request.rejection.message}", "Publish its errors instead")
    staged.clear_staging(staging)
    requests = request.rows.with_columns(identifiers.of_rows(request.rows, request.campaign_id, AUDIENCE))
    bits = schema.event_type_bits(environment.events.consumed)
    people: list[int] = []
    with (stopwatch or StageTimer()).stage("rank and stage"):
        for number, part in enumerate(_parts(_audiences(requests, request.campaign_id, bundle, bits, people))):
            part.write_parquet(staging / f"part-{number:05}.parquet")
    requests = requests.with_columns(pl.Series("people", people, pl.Int64)).select(staged_audiences.REQUESTS.names())
    result = staged_audiences.StagedAudiences(
        folder=staging,
        name=request.name,
        environment=request.environment,
        campaign_id=request.campaign_id,
        request_sha256=request.sha256,
        model_version=bundle.version,
        counts=staged_audiences.AudienceCounts(
            read=request.counts.read,
            answered=requests.height,
            failed=request.counts.failed,
            short=int((requests["people"] < requests["audience_size"]).sum()),
            empty=int((requests["people"] == 0).sum()),
            people=int(requests["people"].sum()),
        ),
        consumed_types=bits,
        files=staged.write_beside(staging, requests=requests, errors=request.errors, items=bundle.items),
    )
    result.save()
    return result


def _audiences(
    requests: pl.DataFrame, campaign_id: str, bundle: Bundle, bits: int, people: list[int]
) -> Iterator[pl.DataFrame]:
    """PARTS of each row; how many people it has is appended to `people`."""
    asked = {cell: item_filters.values(cell) for cell in requests["item_id"].unique()}
    choice = select.Choice(bundle, select.consumption({item for each in asked.values() for item in each}, bundle, bits))
    subject = pl.col("subject")
    for row in requests.iter_rows(named=True):
        found = choice.best(asked[row["item_id"]], row["audience_size"])
        people.append(found.height)
        told = {"campaign_id": campaign_id} | {name: row[name] for name in ("request_id", *AUDIENCE)}
        yield (
            found.rename({"item_id": "best_item"})
            .with_columns(
                pl.when(subject.str.starts_with(select.USER)).then(subject.str.slice(2)).alias("user_id"),
                pl.when(subject.str.starts_with(select.DEVICE)).then(subject.str.slice(2)).alias("device_id"),
                pl.lit(row["row"], pl.Int64).alias("row"),
                *(pl.lit(value, pl.String).alias(name) for name, value in told.items()),
            )
            .select(staged_audiences.PARTS.names())
        )


def _parts(audiences: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Audiences put together into files of about PART_ROWS rows; one without rows where there are none."""
    waiting, rows = [staged_audiences.PARTS.to_frame()], 0
    for each in audiences:
        waiting.append(each)
        rows += each.height
        if rows >= PART_ROWS:
            yield pl.concat(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pl.concat(waiting)
