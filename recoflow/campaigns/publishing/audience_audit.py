"""The publisher's own check of staged audiences, by other means than those that made or checked them before.

What belongs here: reasons to refuse publication. What does not: checks that inform (see `quality`), rendering.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from recoflow.campaigns.lists import item_filters
from recoflow.campaigns.publishing import auditing
from recoflow.campaigns.publishing.auditing import FILES_AND_MODEL, Audit, SqlChecks
from recoflow.storage import sql

if TYPE_CHECKING:
    import duckdb

    from recoflow.campaigns.audiences.staged_audiences import StagedAudiences
    from recoflow.models.algorithms.scorer import Scorer
    from recoflow.models.store.bundle import Bundle
    from recoflow.quality.finding import Finding

CHECKS: Final = FILES_AND_MODEL | {
    "order_kept": "Audiences stand in the order of the request, ranks are 1, 2, … N, scores are finite and never rise, "
    "equal ones stand by subject.",
    "rows_match": "Every audience is for its row of the request, not larger than asked for, and counted.",
    "people_known": "Everybody is a subject of the model, told by the one id that the subject has.",
    "nobody_repeated": "Nobody is in an audience twice.",
    "items_recommendable": "Everybody was chosen for an item that was asked for and is known, enabled and available.",
    "nothing_consumed": "Nobody was chosen for an item that they consumed.",
    "scores_true": "Every score is the model's for this subject and item.",
    "counts_add_up": "The manifest's counts are those of the files.",
}
TOLERANCE: Final = 1e-4  # of scores, which are staged as float32
PAIRS: Final = 1 << 16  # whose scores are computed at once

_DISORDER: Final = """
SELECT row FROM (
    SELECT row, rank, score, subject, lag(row) OVER placed AS row_before, lag(rank) OVER placed AS rank_before,
        lag(score) OVER placed AS score_before, lag(subject) OVER placed AS subject_before
    FROM people WINDOW placed AS (ORDER BY part, place)
)
WHERE coalesce(NOT isfinite(score), true) OR row < row_before
    OR rank IS DISTINCT FROM CASE WHEN row = row_before THEN rank_before + 1 ELSE 1 END
    OR (row = row_before AND (score > score_before OR (score = score_before AND subject <= subject_before)))
"""

_MISMATCHES: Final = """
SELECT row FROM (SELECT row, count(*) AS people FROM people GROUP BY row) AS given FULL JOIN requests USING (row)
WHERE requests.line IS NULL OR coalesce(given.people, 0) <> requests.people OR requests.people > audience_size
UNION ALL
SELECT given.row FROM people AS given JOIN requests AS asked USING (row)
WHERE given.campaign_id IS DISTINCT FROM $campaign_id OR given.request_id IS DISTINCT FROM asked.request_id
    OR given.audience_name IS DISTINCT FROM asked.audience_name OR given.item_id IS DISTINCT FROM asked.item_id
"""

_STRANGERS: Final = """
SELECT row FROM people ANTI JOIN subjects USING (subject)
UNION ALL
SELECT row FROM people WHERE (user_id IS NULL) = (device_id IS NULL)
    OR subject IS DISTINCT FROM coalesce('u:' || user_id, 'd:' || device_id)
"""

_REPEATED: Final = "SELECT row FROM people GROUP BY row, subject HAVING count(*) > 1"

_FOREIGN_ITEMS: Final = """
SELECT best_item FROM people ANTI JOIN (FROM items WHERE is_enabled AND is_available) AS fit ON best_item = fit.item_id
UNION ALL
SELECT best_item FROM people ANTI JOIN asked ON people.row = asked.row AND people.best_item = asked.item_id
"""

_CONSUMED: Final = """
SELECT best_item FROM people JOIN subjects USING (subject) JOIN items ON best_item = items.item_id
    JOIN seen ON seen.subject = subjects.number AND seen.item = items.number
WHERE seen.event_types & $consumed_types <> 0
"""


def audit_audiences(staged: StagedAudiences, bundle: Bundle) -> list[Finding]:
    """Check staged audiences once more, right before they are published; see `auditing.Audit.run`."""
    return _AUDIT.run(staged, bundle)


def _register(connection: duckdb.DuckDBPyConnection, staged: StagedAudiences, bundle: Bundle) -> None:
    connection.execute(f"CREATE TEMP VIEW people AS {auditing.numbered(staged.parts)}")
    connection.execute(f"CREATE TEMP VIEW requests AS FROM {sql.parquet([str(staged.requests)])}")
    requests = pl.read_parquet(staged.requests)
    asked = [
        (row, item) for row, cell in requests.select("row", "item_id").iter_rows() for item in item_filters.values(cell)
    ]
    schema = {"row": pl.Int64, "item_id": pl.String}
    connection.register("asked", pl.DataFrame(asked, schema=schema, orient="row").to_arrow())
    auditing.register_bundle(connection, bundle)


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


_AUDIT: Final = Audit(
    CHECKS,
    SqlChecks(
        _register,
        {
            "order_kept": _DISORDER,
            "rows_match": _MISMATCHES,
            "people_known": _STRANGERS,
            "nobody_repeated": _REPEATED,
            "items_recommendable": _FOREIGN_ITEMS,
            "nothing_consumed": _CONSUMED,
            "scores_true": _scores,
            "counts_add_up": _counts,
        },
    ),
)
