"""Staged recommendations: an answered campaign on disk, complete but not yet published.

What belongs here: the folder's shape and its manifest. What does not: ranking (see `build_lists`), CSV (see
`publishing.render`).

    <staging>/part-00000.parquet …   recommendations in the order of the request: `columns()`, a file per block of lists
              requests.parquet       REQUESTS: one row per accepted row of the request
              errors.parquet         row_rules.ERRORS
              items.parquet          which items there were, and whether they could be recommended
              manifest.json          `StagedFiles`, with the sha256 of every other file; written last
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import polars as pl
from pydantic import TypeAdapter

from recoflow import schema
from recoflow.errors import CampaignError
from recoflow.storage import atomic_files

STAGING: Final = "staging"  # below a campaign's folder
MANIFEST: Final = "manifest.json"
REQUESTS_FILE: Final = "requests.parquet"
ERRORS_FILE: Final = "errors.parquet"
ITEMS_FILE: Final = "items.parquet"

REQUESTS: Final = pl.Schema(
    {
        "row": pl.Int64,  # 0, 1, … over the accepted rows
        "line": pl.Int64,  # of the request file
        "user_id": pl.String,
        "device_id": pl.String,
        "subject": pl.String,  # whose consumption and earlier lists count
        "list_name": pl.String,
        "list_size": pl.Int64,
        "configuration_id": pl.String,
        "page_type": pl.String,
        "request_id": pl.String,
        "user_group": pl.String,
        "version": pl.String,
        "may_repeat": pl.Boolean,  # the configuration lets items of earlier lists of the subject appear again
        "consumed_types": pl.Int32,  # bits of the event types by which an item counts as consumed here
        "is_by_score": pl.Boolean,  # items stand in the order of their scores: the configuration asks for no diversity
        "recipe": pl.Int64,  # index into the manifest's constraints: those of its configuration; -1 for none
        "items": pl.Int64,  # how many were recommended
    }
)


@dataclass(frozen=True)
class ListCounts:
    """Accounting of a campaign; `read == answered + failed`, `answered == personalized + fallback + unpersonalized`.

    `answered` counts lists, the `short` (fewer items than asked for) and the `empty` ones among them; `unpersonalized`
    are those whose configuration asked for no personal ranking. `headers_repeated` are no rows.
    `people` are those of the answered lists, and `people_known` those of whom the model or events since its training
    know something. `empty_information` tells for each information field in how many rows it is empty.
    """

    read: int
    answered: int
    failed: int
    personalized: int
    fallback: int
    unpersonalized: int
    short: int
    empty: int
    items: int
    page_types_replaced: int
    headers_repeated: int = 0
    people: int = 0
    people_known: int = 0
    empty_information: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StagedFiles:
    """A campaign's answers in `folder`, whatever it asked for.

    Args:
        folder: where the files lie.
        name: of the request file, byte for byte.
        environment: of the campaign.
        campaign_id: see `model.campaign_id`.
        request_sha256: of the request file.
        model_version: of the bundle that ranked.
        files: name → sha256 of the files beside the manifest.
    """

    folder: Path
    name: str
    environment: str
    campaign_id: str
    request_sha256: str
    model_version: str
    files: dict[str, str]

    @property
    def parts(self) -> tuple[Path, ...]:
        """The answers' files, in the order of the request; at least one."""
        return tuple(self.folder / name for name in sorted(self.files) if name.startswith("part-"))

    @property
    def requests(self) -> Path:
        """The file of the request's accepted rows (`REQUESTS`, or `staged_audiences.REQUESTS`)."""
        return self.folder / REQUESTS_FILE

    @property
    def errors(self) -> Path:
        """The file of row_rules.ERRORS."""
        return self.folder / ERRORS_FILE

    @property
    def items(self) -> Path:
        """The file of item_id, is_enabled, is_available, as of the campaign."""
        return self.folder / ITEMS_FILE

    def save(self) -> None:
        """Write the manifest: from now on the folder is a staged campaign."""
        values = {key: value for key, value in asdict(self).items() if key != "folder"}
        text = json.dumps(values, ensure_ascii=True, indent=1, sort_keys=True) + "\n"
        atomic_files.write_atomic(self.folder / MANIFEST, text.encode())


Answer = TypeVar("Answer", bound=StagedFiles)


@dataclass(frozen=True)
class StagedLists(StagedFiles):
    """One campaign's recommendations in `folder`.

    Args:
        information_fields: columns of the parts and of the response, between item_id and rank.
        csv_safe: whether information fields are made harmless for spreadsheets.
        counts: see `Counts`.
        constraints: for each recipe (see `constraints`) its `list_configuration.Constraint`s as JSON values.
        suspended: experiment → why it did not take place.
        model_people: how many people the model in service knows.
    """

    information_fields: tuple[str, ...]
    csv_safe: bool
    counts: ListCounts
    constraints: list[list[dict[str, Any]]]
    suspended: dict[str, str]
    model_people: int = 0


def clear_staging(folder: Path) -> None:
    """Make the folder, and remove what an earlier attempt left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in folder.glob("*.parquet"):
        path.unlink()


def write_beside(folder: Path, *, requests: pl.DataFrame, errors: pl.DataFrame, items: pl.DataFrame) -> dict[str, str]:
    """Write what stands beside the parts.

    Args:
        folder: with the parts.
        requests: `REQUESTS` of the kind of answers.
        errors: row_rules.ERRORS.
        items: ITEMS that there were.

    Returns:
        Name → sha256 of all files: the manifest's `files`.
    """
    requests.write_parquet(folder / REQUESTS_FILE, compression="lz4", statistics=False)
    errors.write_parquet(folder / ERRORS_FILE)
    items.select("item_id", "is_enabled", "is_available").write_parquet(folder / ITEMS_FILE)
    return {path.name: atomic_files.sha256(path) for path in sorted(folder.glob("*.parquet"))}


def load_staged(folder: Path, kind: type[Answer]) -> Answer:
    """Read the manifest of staged answers of this kind; whether its files are still the same is for an audit to say.

    Raises:
        CampaignError: there is no such manifest, or it is damaged.
    """
    try:
        values: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        answers: Answer = _reader(kind).validate_python(values | {"folder": folder})  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError) as error:
        cure = "Materialize campaign_recommendations of this campaign again"
        raise CampaignError(str(folder / MANIFEST), f"is no manifest of a staged campaign ({error})", cure) from None
    return answers


@functools.cache
def _reader(kind: type[StagedFiles]) -> TypeAdapter[Any]:
    """To make one takes longer than to read a hundred manifests."""
    return TypeAdapter(kind)


def part_columns(information_fields: tuple[str, ...]) -> pl.Schema:
    """The columns of the parts: those of the response, then what the checks and the lake need.

    Args:
        information_fields: the environment's.
    """
    text = (*schema.RESPONSE_COLUMNS, *information_fields)
    return pl.Schema(
        dict.fromkeys(text, pl.String)
        | {"rank": pl.Int64, "page_type": pl.String, "row": pl.Int64, "score": pl.Float32}  # row: of REQUESTS
    )
