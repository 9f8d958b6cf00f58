"""Request files: CSV in, typed rows, row errors and counts out; or one named reason why the whole file is rejected.

What does not belong here: bytes (`csv_framing`), header and cells (`csv_reader`), names (`filename`), the rules about
rows (`list_rows`, `audience_rows`), what a filter or a configuration means for items (`item_filters`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from recoflow.campaigns.requests import audience_rows, csv_framing, csv_reader, filename, list_rows
from recoflow.campaigns.requests.model import Request, campaign_id
from recoflow.campaigns.requests.rejection import Rejection, RequestRejectedError
from recoflow.campaigns.requests.row_rules import ERRORS
from recoflow.settings.list_configuration import ALGORITHMS

if TYPE_CHECKING:
    from recoflow.campaigns.audiences.select import AudienceItems
    from recoflow.settings.environment import Environment


def parse_request(
    path: Path,
    *,
    name: str,
    environment: Environment,
    sha256: str,
    known_attributes: Collection[str],
    algorithms: Collection[str] = ALGORITHMS,
    catalogue: AudienceItems | None = None,
    chunk_bytes: int = csv_framing.CHUNK,
) -> Request:
    """Read a request file, for lists or for audiences: its header tells which.

    Args:
        path: where the file lies.
        name: its name as uploaded.
        environment: the account that it came by.
        sha256: of its bytes.
        known_attributes: the attributes that items have (see `item_filters.attribute_names`).
        algorithms: what configurations may choose (see `item_filters.algorithms`).
        catalogue: the items that audiences may be asked for; None when there are none.
        chunk_bytes: of the file that are in memory at once, about.

    Returns:
        The request. Whatever is wrong with the file is in it as data: `rejection` and `errors`.
    """
    empty = Request(
        name=name,
        environment=environment.name,
        sha256=sha256,
        campaign_id=campaign_id(environment.name, name, sha256),
        rows=list_rows.rows_schema(()).to_frame(),
        filters={},
        errors=ERRORS.to_frame(),
    )
    try:
        filename.parse_filename(name, environment.name)
        read = csv_reader.read_cells(path, filename.is_compressed(name), environment, chunk_bytes=chunk_bytes)
        if csv_reader.is_for_audiences(read.header):
            return audience_rows.judge_audience_rows(empty, read, environment.campaigns, catalogue)
        return list_rows.judge_list_rows(empty, read, list_rows.RequestTerms(environment, known_attributes, algorithms))
    except RequestRejectedError as error:
        return _refused(empty, error.rejection)


def _refused(request: Request, rejection: Rejection) -> Request:
    row = (rejection.line, rejection.column, rejection.code, rejection.message)
    errors = pl.DataFrame([row], schema=ERRORS, orient="row")
    return replace(request, errors=errors, rejection=rejection)
