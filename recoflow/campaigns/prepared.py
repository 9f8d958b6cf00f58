"""A request as it was understood, on disk: what the step *prepare* makes and the step *build* reads.

    <campaign>/prepared/request.parquet   the accepted rows
                        errors.parquet    row_rules.ERRORS
                        request.json      the rest of `Request`, and the inputs it was read with; written last

The folder is separate from the record, the inputs and the response because an erasure deletes it whole when it names
the person.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import polars as pl

from recoflow.campaigns.inputs import Inputs
from recoflow.campaigns.requests.model import Request, RequestCounts
from recoflow.campaigns.requests.rejection import Rejection
from recoflow.errors import CampaignError
from recoflow.storage import atomic_files

ROWS: Final = "request.parquet"
ERRORS: Final = "errors.parquet"
REST: Final = "request.json"


def save_prepared(request: Request, inputs: Inputs, folder: Path) -> None:
    """Write a request that was read with these inputs; what an earlier attempt left in the folder is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REST).unlink(missing_ok=True)
    request.rows.write_parquet(folder / ROWS, compression="lz4")
    request.errors.write_parquet(folder / ERRORS)
    rest = {
        "inputs": inputs.as_json(),
        "name": request.name,
        "environment": request.environment,
        "sha256": request.sha256,
        "campaign_id": request.campaign_id,
        "filters": dict(request.filters),
        "rejection": None if request.rejection is None else asdict(request.rejection),
        "counts": asdict(request.counts),
        "suspended": dict(request.suspended),
        "is_for_audiences": request.is_for_audiences,
    }
    atomic_files.write_atomic(folder / REST, (json.dumps(rest, indent=1, sort_keys=True) + "\n").encode())


def load_prepared(folder: Path, inputs: Inputs) -> Request | None:
    """The request that was prepared with these inputs; None if there is none, or one of its files is missing.

    Raises:
        CampaignError: the folder is damaged.
    """
    try:
        rest: dict[str, Any] = json.loads((folder / REST).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(folder / REST, error) from None
    if rest.pop("inputs", None) != inputs.as_json():
        return None
    if not (folder / ROWS).exists() or not (folder / ERRORS).exists():  # an erasure was interrupted
        return None
    try:
        return _request(rest, pl.read_parquet(folder / ROWS), pl.read_parquet(folder / ERRORS))
    except (OSError, TypeError, KeyError, pl.exceptions.PolarsError) as error:
        raise _damaged(folder, error) from None


def _request(rest: Mapping[str, Any], rows: pl.DataFrame, errors: pl.DataFrame) -> Request:
    rejection = None if rest["rejection"] is None else Rejection(**rest["rejection"])
    return Request(
        **{**rest, "rejection": rejection, "counts": RequestCounts(**rest["counts"])}, rows=rows, errors=errors
    )


def _damaged(path: Path, error: Exception) -> CampaignError:
    return CampaignError(str(path), f"is damaged ({error})", "Materialize campaign_request of this campaign again")
