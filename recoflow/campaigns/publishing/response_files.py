"""The files that answer a campaign, in the order of publication.

What belongs here: which files there are and what they are called. What does not: their content (see `render`), and
the upload (`storage.sftp.mailbox`).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from recoflow.campaigns.audiences.staged_audiences import StagedAudiences
from recoflow.campaigns.publishing import render
from recoflow.campaigns.publishing.render import RenderedResponse
from recoflow.campaigns.requests import filename
from recoflow.campaigns.requests.model import Request
from recoflow.campaigns.staging.staged import StagedLists

Files = list[tuple[Path, str]]  # local path, name in responses/
MANIFEST = "manifest.json"


def render_files(
    answered: StagedLists | StagedAudiences | Request, folder: Path, audit: Callable[[], object] = lambda: None
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


def _audited(answered: StagedLists | StagedAudiences, path: Path, audit: Callable[[], object]) -> RenderedResponse:
    with ThreadPoolExecutor(1) as thread:
        auditing = thread.submit(audit)
        try:
            return render.write_response(answered, path, approve=auditing.result)
        except Exception:
            auditing.result()  # a file that cannot be rendered is one that the audit refuses: that says why
            raise


def is_rendered(folder: Path) -> bool:
    """Whether the files of a campaign were rendered once, so that they may have been published."""
    return (folder / MANIFEST).exists()
