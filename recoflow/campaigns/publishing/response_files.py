"""What leaves the house: the files that answer a campaign in the order of publication, and its rows for the lake.

What belongs here: which files there are and what they are called. What does not: their content (see `response`), and
the upload (`storage.mailbox`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import polars as pl

from recoflow import schema
from recoflow.campaigns.audiences.staged_audiences import StagedAudiences
from recoflow.campaigns.publishing import render
from recoflow.campaigns.publishing.render import Response
from recoflow.campaigns.requests import csv_reader, filename
from recoflow.campaigns.requests.model import Request
from recoflow.campaigns.staging import memory
from recoflow.campaigns.staging.staged import Staged
from recoflow.formats.fields import BLANK

Files = list[tuple[Path, str]]  # local path, name in responses/
MANIFEST = "manifest.json"


def render_files(
    answered: Staged | StagedAudiences | Request, folder: Path, audit: Callable[[], object] = lambda: None
) -> Files:
    """Write the files that answer a request; the response itself, or the errors of a refused request, come last.

    Args:
        answered: the staged campaign, or the request that was refused as a whole.
        folder: of the campaign.
        audit: of a staged campaign, unless it was audited before. It runs while the response is written; before it is
            done nothing new is to be seen in the folder, and what it raises is raised here.
    """
    errors = folder / "errors.csv", filename.errors_name(answered.name)
    manifest = folder / MANIFEST, filename.manifest_name(answered.name)
    if isinstance(answered, Request):
        render.write_errors(answered.errors, errors[0])
        render.write_rejection(answered, manifest[0])
        return [manifest, errors]
    rendered = _audited(answered, folder / "response", audit)
    render.write_manifest(answered, rendered, manifest[0])
    files = [manifest, (rendered.path, answered.name)]
    refused = pl.read_parquet(answered.errors)
    if refused.height:
        render.write_errors(refused, errors[0])
        files.insert(0, errors)
    return files


def _audited(answered: Staged | StagedAudiences, path: Path, audit: Callable[[], object]) -> Response:
    memory.reuse()
    with ThreadPoolExecutor(1) as thread:
        auditing = thread.submit(audit)
        try:
            return render.write(answered, path, approve=auditing.result)
        except Exception:
            auditing.result()  # a file that cannot be rendered is one that the audit refuses: that says why
            raise


def is_rendered(folder: Path) -> bool:
    """Whether the files of a campaign were rendered once, so that they may have been published."""
    return (folder / MANIFEST).exists()


def rows(staged: Staged, published_at: datetime) -> pl.DataFrame:
    """The published recommendations as `schema.RESPONSES`.

    Audiences have no rows there: the table says what people were given, which later events are traced back to by
    request_id, and nobody is given anything by being chosen.
    """
    kept = [*schema.RESPONSE_COLUMNS, "rank", "page_type"]
    return (
        pl.read_parquet(list(staged.parts), columns=kept)
        .with_columns(pl.col(csv_reader.PERSON).str.strip_chars(BLANK))  # or nobody finds them who looks for a person
        .with_columns(model_version=pl.lit(staged.model_version), published_at=pl.lit(published_at))
        .cast(schema.RESPONSES)
        .select(schema.RESPONSES.names())
    )
