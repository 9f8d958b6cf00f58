"""How staged answers are audited: check by check, and the first one that failed refuses publication.

What belongs here: what the audits of lists and of audiences share. What does not: what they check (see `audit` and
`audience_audit`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic

import numpy as np
import polars as pl

from recoflow.campaigns.staging.staged import ERRORS_FILE, REQUESTS_FILE, Answer, StagedFiles
from recoflow.errors import AuditError
from recoflow.quality.finding import Finding
from recoflow.storage import atomic_files, sql

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from recoflow.models.store.bundle import Bundle

CURE: Final = "Materialize campaign_recommendations of this campaign again; nothing was published"

FILES_AND_MODEL: Final = {
    "files_unchanged": "Every staged file has the sha256 of its manifest.",
    "model_sound": "The model at hand is the one that ranked, and its numbers are finite.",
}


@dataclass(frozen=True)
class Audit(Generic[Answer]):
    """The audit of one kind of staged answers.

    Args:
        meanings: check → what is so when it passes, in their order: those of FILES_AND_MODEL, then those of `search`.
        search: tells each check and the problems that it found.
    """

    meanings: Mapping[str, str]
    search: Callable[[Answer, Bundle], Iterable[tuple[str, list[str]]]]

    def run(self, staged: Answer, bundle: Bundle) -> list[Finding]:
        """A passed finding for each check.

        Args:
            staged: what is to be published.
            bundle: the model that ranked it, loaded and brought up to date anew.

        Raises:
            AuditError: naming the first check that failed.
        """
        findings = []
        for check, problems in self._problems(staged, bundle):
            if problems:
                message = f"Not so: {self.meanings[check]} {'; '.join(problems)}"
                raise AuditError(f"campaign {staged.name}: {check}", message, CURE)
            findings.append(Finding(check, passed=True, message=self.meanings[check]))
        return findings

    def _problems(self, staged: Answer, bundle: Bundle) -> Iterator[tuple[str, list[str]]]:
        yield "files_unchanged", _changed_files(staged)
        yield "model_sound", _model_problems(staged, bundle)
        yield from self.search(staged, bundle)


@dataclass(frozen=True)
class SqlChecks(Generic[Answer]):
    """Checks by SQL.

    Args:
        register: makes the tables that are queried, and those of `register_bundle` if they are needed.
        tables: check → what looks for problems: a query that is to find nothing, whose `$names` are attributes of the
            staged answer, or a function that tells problems.
    """

    register: Callable[[duckdb.DuckDBPyConnection, Answer, Bundle], None]
    tables: Mapping[str, str | Callable[[duckdb.DuckDBPyConnection, Answer, Bundle], list[str]]]

    def __call__(self, staged: Answer, bundle: Bundle) -> Iterator[tuple[str, list[str]]]:
        """Each check and its problems."""
        with sql.connect() as connection:
            self.register(connection, staged, bundle)
            for check, search in self.tables.items():
                if isinstance(search, str):
                    yield check, _rows(connection, search, staged)
                else:
                    yield check, search(connection, staged, bundle)


def numbered(parts: Sequence[Path]) -> str:
    """The query for all rows of the parts; `part` and `place` say where each stands."""
    return " UNION ALL ".join(
        f"SELECT *, {number} AS part, file_row_number AS place "
        f"FROM read_parquet({sql.quoted(str(part))}, file_row_number = true)"
        for number, part in enumerate(parts)
    )


def register_bundle(connection: duckdb.DuckDBPyConnection, bundle: Bundle) -> None:
    """Tables `items` and `subjects`, which have numbers, and by these `seen`: who did what with which item."""
    subjects = bundle.subject_ids.to_frame()
    owners = np.repeat(np.arange(len(subjects), dtype=np.uint32), np.diff(bundle.seen_indptr))
    items, types = np.asarray(bundle.seen_indices), np.asarray(bundle.seen_types)
    connection.register("items", bundle.items.with_row_index("number").to_arrow())
    connection.register("subjects", subjects.with_row_index("number").to_arrow())
    connection.register("seen", pl.DataFrame({"subject": owners, "item": items, "event_types": types}).to_arrow())


def _changed_files(staged: StagedFiles) -> list[str]:
    present = {path.name for path in staged.folder.glob("*.parquet")}
    expected = {REQUESTS_FILE, ERRORS_FILE, *staged.files}
    if not staged.parts or present != expected:
        return sorted(present ^ expected) or ["no recommendations"]
    return [name for name, digest in staged.files.items() if atomic_files.sha256(staged.folder / name) != digest]


def _model_problems(staged: StagedFiles, bundle: Bundle) -> list[str]:
    other = [] if bundle.version == staged.model_version else [f"{staged.model_version} is not {bundle.version}"]
    numbers = ("user_factors", "item_factors", "popular", "trending")
    return other + [f"{name} hold NaN or infinity" for name in numbers if not np.isfinite(getattr(bundle, name)).all()]


def _rows(connection: duckdb.DuckDBPyConnection, query: str, staged: StagedFiles) -> list[str]:
    values = {name: getattr(staged, name) for name in re.findall(r"\$(\w+)", query)}
    counted = f"SELECT count(*), min(found) FROM ({query}) AS wrong(found)"
    ((cases, example),) = connection.execute(counted, values).fetchall()
    return [f"{cases} cases, e.g. {example}"] if cases else []
