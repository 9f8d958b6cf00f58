"""The publisher's gate: the violations of a staged campaign are looked for once more, and the first one refuses it.

Right before publication, over the model and the catalogue at hand: files may have been changed since they were checked,
and a campaign may be published without its checks. `list_gate` and `audience_gate` say what is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic

import numpy as np

from recoflow.campaigns.publishing import violations
from recoflow.campaigns.staging.staged import ERRORS_FILE, REQUESTS_FILE, Answer, StagedFiles
from recoflow.errors import AuditError
from recoflow.quality.finding import Finding
from recoflow.storage import atomic_files, sql

if TYPE_CHECKING:
    import duckdb

    from recoflow.models.store.bundle import Bundle

CURE: Final = "Materialize campaign_recommendations of this campaign again; nothing was published"

FILES_AND_MODEL: Final = {
    "files_unchanged": "Every staged file has the sha256 of its manifest.",
    "model_sound": "The model at hand is the one that ranked, and its numbers are finite.",
}


@dataclass(frozen=True)
class Gate(Generic[Answer]):
    """The gate of one kind of staged answers.

    Args:
        meanings: check → what is true when it passes, in the order in which they are looked at.
        ordered: as in `violations.tables`.
        derived: table → query, as for the checks.
        searches: check → a query of `violations`, whose `$names` are attributes of the staged answer, or a function
            that returns the problems. Those of FILES_AND_MODEL are common to all.
        register: makes further tables on the connection.
    """

    meanings: Mapping[str, str]
    ordered: tuple[str, ...]
    derived: Mapping[str, str]
    searches: Mapping[str, str | Callable[[duckdb.DuckDBPyConnection, Answer, Bundle], list[str]]]
    register: Callable[[duckdb.DuckDBPyConnection, Answer, Bundle], None]

    def run(self, staged: Answer, bundle: Bundle) -> list[Finding]:
        """A passed finding for each check.

        Args:
            staged: what is to be published.
            bundle: the model that ranked it, with the current items and the current people of the request.

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
        with sql.connect() as connection:
            seen = violations.StagedTables("", staged.campaign_id, staged.parts, staged.requests, staged.items)
            for table, query in violations.tables([seen], self.ordered).items():
                if table != "items":
                    connection.execute(f"CREATE TEMP VIEW {table} AS {query}")
            connection.register("items", _items(bundle))
            for table, query in self.derived.items():
                connection.execute(f"CREATE TEMP TABLE {table} AS {query}")
            self.register(connection, staged, bundle)
            for check in self.meanings:
                if check in FILES_AND_MODEL:
                    continue
                search = self.searches[check]
                if isinstance(search, str):
                    yield check, rows_found(connection, search, staged)
                else:
                    yield check, search(connection, staged, bundle)


def _items(bundle: Bundle) -> object:
    """The catalogue at hand, with the number of each item in the model."""
    items = bundle.items.select("item_id", "is_enabled", "is_available").with_row_index("number")
    return items.with_columns(catalogue=0).to_arrow()


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


def rows_found(connection: duckdb.DuckDBPyConnection, query: str, staged: StagedFiles) -> list[str]:
    """The number of rows that a query of violations finds, and one of them, as a problem; empty if it finds none.

    `$names` in the query are attributes of the staged answer.
    """
    values = {name: getattr(staged, name) for name in re.findall(r"\$(\w+)", query)}
    counted = f"SELECT count(*), min(found) FROM ({query}) AS wrong(found)"
    ((cases, example),) = connection.execute(counted, values).fetchall()
    return [f"{cases} cases, e.g. in row {example} of the request"] if cases else []
