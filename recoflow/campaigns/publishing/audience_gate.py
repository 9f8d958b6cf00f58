"""What the publisher's gate looks for in audiences; see `gate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from recoflow.campaigns.lists import item_filters
from recoflow.campaigns.publishing import audience_violations
from recoflow.campaigns.publishing.gate import FILES_AND_MODEL, Gate

if TYPE_CHECKING:
    import duckdb

    from recoflow.campaigns.audiences.staged_audiences import StagedAudiences
    from recoflow.models.algorithms.scorer import Scorer
    from recoflow.models.store.bundle import Bundle
    from recoflow.quality.finding import Finding

CHECKS: Final = (
    FILES_AND_MODEL
    | {check: audience_violations.CHECKS[check] for check in ("order_kept", "rows_match")}
    | {
        "users_in_model": "Every user or device is a subject of the model, named by the one id that the subject has.",
        "no_duplicate_users": audience_violations.CHECKS["no_duplicate_users"],
        "items_recommendable": "Every item that a user was chosen for was asked for, is known, enabled and available.",
        "nothing_consumed": "No user was chosen for an item that the user consumed.",
        "scores_match_model": "Every score is the model's for this subject and item.",
        "counts_add_up": "The manifest's counts are those of the files.",
    }
)
TOLERANCE: Final = 1e-4  # of scores, which are staged as float32
PAIRS: Final = 1 << 16  # whose scores are computed at once

_STRANGERS: Final = """
SELECT row FROM recommendations ANTI JOIN subjects USING (subject)
UNION ALL
SELECT row FROM recommendations WHERE (user_id IS NULL) = (device_id IS NULL)
    OR subject IS DISTINCT FROM coalesce('u:' || user_id, 'd:' || device_id)
"""

_FOREIGN_ITEMS: Final = f"""
{audience_violations.VIOLATIONS["items_recommendable"]}
UNION ALL
SELECT given.row FROM recommendations AS given ANTI JOIN asked
    ON given.row = asked.row AND given.best_item = asked.item_id
"""

_CONSUMED: Final = """
SELECT row FROM recommendations JOIN subjects USING (subject) JOIN items ON best_item = items.item_id
    JOIN seen ON seen.subject = subjects.number AND seen.item = items.number
WHERE seen.event_types & $consumed_types <> 0
"""


def audit_audiences(staged: StagedAudiences, bundle: Bundle) -> list[Finding]:
    """Look for violations in staged audiences once more, right before they are published; see `gate.Gate.run`."""
    return _GATE.run(staged, bundle)


def _register(connection: duckdb.DuckDBPyConnection, staged: StagedAudiences, bundle: Bundle) -> None:
    """Tables `asked`, `subjects`, which have numbers, and by these `seen`: who did what with which item."""
    requests = pl.read_parquet(staged.requests)
    asked = [
        (row, item) for row, cell in requests.select("row", "item_id").iter_rows() for item in item_filters.values(cell)
    ]
    schema = {"row": pl.Int64, "item_id": pl.String}
    connection.register("asked", pl.DataFrame(asked, schema=schema, orient="row").to_arrow())
    subjects = bundle.subject_ids.to_frame()
    owners = np.repeat(np.arange(len(subjects), dtype=np.uint32), np.diff(bundle.seen_indptr))
    items, types = np.asarray(bundle.seen_indices), np.asarray(bundle.seen_types)
    connection.register("subjects", subjects.with_row_index("number").to_arrow())
    connection.register("seen", pl.DataFrame({"subject": owners, "item": items, "event_types": types}).to_arrow())


def _scores(_connection: duckdb.DuckDBPyConnection, staged: StagedAudiences, bundle: Bundle) -> list[str]:
    places = bundle.items.select(pl.col("item_id").alias("best_item")).with_row_index("item")
    wrong = []
    for part in staged.parts:
        people = pl.read_parquet(part, columns=["row", "subject", "best_item", "score"])
        people = people.join(places, on="best_item", how="left", maintain_order="left")
        rows, items = bundle.rows_of(people["subject"]), people["item"].fill_null(-1).to_numpy().astype(np.int64)
        is_known = (rows >= 0) & (items >= 0)
        expected = np.full(len(rows), np.nan)
        expected[is_known] = _pairs(bundle.scorer, rows[is_known], items[is_known])
        is_true = np.isclose(people["score"].fill_null(np.nan).to_numpy(), expected, rtol=TOLERANCE, atol=TOLERANCE)
        wrong += people["row"].gather(np.flatnonzero(~is_true)).to_list()
    return [f"{len(wrong)} cases, e.g. in row {wrong[0]}"] if wrong else []


def _pairs(
    scorer: Scorer, rows: np.ndarray[tuple[int], np.dtype[np.int64]], items: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The model's score of each pair, by the definition."""
    found = np.empty(len(rows))
    similar = None if scorer.similarity is None else scorer.similarity.T.tocsr()
    for begin in range(0, len(rows), PAIRS):
        block = slice(begin, begin + PAIRS)
        users = np.asarray(scorer.user_factors[rows[block]], np.float64)
        found[block] = (users * np.asarray(scorer.item_factors[items[block]], np.float64)).sum(axis=1)
        if scorer.history is not None and similar is not None:
            history = scorer.history[rows[block]].astype(np.float64)
            found[block] += np.asarray(history.multiply(similar[items[block]]).sum(axis=1)).ravel()
    return found


def _counts(connection: duckdb.DuckDBPyConnection, staged: StagedAudiences, _bundle: Bundle) -> list[str]:
    (found,) = connection.execute(
        "SELECT count(*), count(*) FILTER (people < audience_size), count(*) FILTER (people = 0), "
        "coalesce(sum(people), 0)::BIGINT FROM requests"
    ).fetchall()
    counts = staged.counts
    expected = (counts.answered, counts.short, counts.empty, counts.people)
    is_whole = counts.read == counts.answered + counts.failed
    return [] if found == expected and is_whole else [f"{found} instead of {expected}"]


_GATE: Final = Gate(
    meanings=CHECKS,
    ordered=("row", "rank", "score", "subject"),
    derived={"answers": audience_violations.DERIVED["answers"]},
    searches=audience_violations.VIOLATIONS
    | {
        "users_in_model": _STRANGERS,
        "items_recommendable": _FOREIGN_ITEMS,
        "nothing_consumed": _CONSUMED,
        "scores_match_model": _scores,
        "counts_add_up": _counts,
    },
    register=_register,
)
