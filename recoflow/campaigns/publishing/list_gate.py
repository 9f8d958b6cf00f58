"""What the publisher's gate looks for in lists; see `gate`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from scipy import sparse

from recoflow.campaigns.lists import item_filters
from recoflow.campaigns.publishing import violations
from recoflow.campaigns.publishing.gate import FILES_AND_MODEL, Gate, rows_found

if TYPE_CHECKING:
    import duckdb

    from recoflow.campaigns.staging.staged import StagedLists
    from recoflow.models.store.bundle import Bundle
    from recoflow.quality.finding import Finding

_FROM_FILES: Final = ("order_kept", "rows_match", "items_recommendable", "no_item_repeated")
CHECKS: Final = (
    FILES_AND_MODEL
    | {check: violations.CHECKS[check] for check in _FROM_FILES}
    | {
        "nothing_consumed": "No subject gets an item that it consumed.",
        "constraints_hold": "No list exceeds a maximum of its configuration; places that a minimum lacks are empty.",
        "counts_add_up": "The manifest's counts are those of the files.",
    }
)
_LIMITS: Final = pl.Schema({"recipe": pl.Int64, "number": pl.Int64, "least": pl.Int64, "most": pl.Int64})
_MEETING: Final = pl.Schema({"recipe": pl.Int64, "number": pl.Int64, "item_id": pl.String})

# What a list lacks to its minima fits into what it lacks to its size, unless the minima are more than its size.
_UNCONSTRAINED: Final = """
WITH counted AS (
    SELECT row, recipe, number, count(*) AS items
    FROM recommendations JOIN requests USING (row) JOIN meeting USING (recipe, item_id) GROUP BY ALL
)
SELECT row FROM counted JOIN limits USING (recipe, number) WHERE counted.items > most
UNION ALL
SELECT row FROM requests JOIN limits USING (recipe) LEFT JOIN counted USING (row, recipe, number)
GROUP BY row, list_size, requests.items HAVING sum(least) <= list_size
    AND requests.items + sum(greatest(least - coalesce(counted.items, 0), 0)) > list_size
"""


def audit_lists(staged: StagedLists, bundle: Bundle) -> list[Finding]:
    """Look for violations in staged lists once more, right before they are published; see `gate.Gate.run`."""
    return _GATE.run(staged, bundle)


def _register(connection: duckdb.DuckDBPyConnection, staged: StagedLists, bundle: Bundle) -> None:
    limits, meeting = _constraints(staged, bundle.items)
    connection.register("limits", limits.to_arrow())
    connection.register("meeting", meeting.to_arrow())


def _constraints(staged: StagedLists, items: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The limits of each recipe's constraints by number, and the items that meet them."""
    limits, meeting = [_LIMITS.to_frame()], [_MEETING.to_frame()]
    for recipe, constraints in enumerate(staged.constraints):
        for number, constraint in enumerate(constraints):
            least, most = constraint["limit"]["min"], constraint["limit"]["max"]
            limits.append(pl.DataFrame([(recipe, number, least, most)], _LIMITS, orient="row"))
            found = items.filter(_meeting(items, constraint["query"])).select(
                pl.lit(recipe, pl.Int64).alias("recipe"), pl.lit(number, pl.Int64).alias("number"), "item_id"
            )
            meeting.append(found)
    return pl.concat(limits), pl.concat(meeting)


def _meeting(items: pl.DataFrame, query: Mapping[str, Any]) -> pl.Series:
    comparison = query["match"] or query["contains"]
    (wanted,) = item_filters.attribute_texts(comparison["value"])
    found = []
    for item_type, text in items.select("item_type", "attributes").iter_rows():
        answers = item_filters.attribute_texts(
            (json.loads(text or "{}") | {item_filters.ITEM_TYPE: item_type}).get(query["key"])
        )
        is_met = set(answers) == {wanted} if query["match"] else wanted in answers
        found.append(is_met != comparison["not"])
    return pl.Series(found, dtype=pl.Boolean)


def _consumed(_connection: duckdb.DuckDBPyConnection, staged: StagedLists, bundle: Bundle) -> list[str]:
    """Recommendations that are in the history of their subject, by an event that counts for the list."""
    requests = pl.read_parquet(staged.requests, columns=["row", "subject", "consumed_types"]).sort("row")
    subjects, counts = bundle.rows_of(requests["subject"]), requests["consumed_types"].to_numpy()
    places = bundle.items.select("item_id").with_row_index("item")
    shape = len(bundle.subjects), len(places)
    history = sparse.csr_matrix((bundle.seen_types, bundle.seen_indices, bundle.seen_indptr), shape=shape)
    cases: list[int] = []
    for part in staged.parts:
        given = pl.read_parquet(part, columns=["row", "item_id"]).join(places, on="item_id", maintain_order="left")
        rows, items = given["row"].to_numpy(), given["item"].to_numpy()
        is_known = subjects[rows] >= 0
        rows, items = rows[is_known], items[is_known]
        if not len(rows):  # an empty selection of a sparse matrix is not an array of numbers
            continue
        types = np.asarray(history[subjects[rows], items]).ravel()
        cases += rows[(types & counts[rows]) != 0].tolist()
    return [f"{len(cases)} cases, e.g. in row {cases[0]} of the request"] if cases else []


def _unmet_constraints(connection: duckdb.DuckDBPyConnection, staged: StagedLists, _bundle: Bundle) -> list[str]:
    """The query joins all recommendations, so it is skipped where no list has a constraint."""
    if not any(staged.constraints):
        return []
    return rows_found(connection, _UNCONSTRAINED, staged)


def _miscounts(connection: duckdb.DuckDBPyConnection, staged: StagedLists, _bundle: Bundle) -> list[str]:
    (found,) = connection.execute(
        "SELECT count(*), count(*) FILTER (user_group = 'fallback'), count(*) FILTER (items < list_size), "
        "count(*) FILTER (items = 0), coalesce(sum(items), 0)::BIGINT FROM requests"
    ).fetchall()
    counts = staged.counts
    expected = (counts.answered, counts.fallback, counts.short, counts.empty, counts.items)
    is_whole = counts.read == counts.answered + counts.failed
    return [] if found == expected and is_whole else [f"{found} instead of {expected}"]


_GATE: Final = Gate(
    meanings=CHECKS,
    ordered=("row", "rank", "score"),
    derived={name: query for name, query in violations.DERIVED.items() if name != "groups"},
    searches=violations.VIOLATIONS
    | {"nothing_consumed": _consumed, "constraints_hold": _unmet_constraints, "counts_add_up": _miscounts},
    register=_register,
)
