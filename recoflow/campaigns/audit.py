"""The publisher's own check of a staged campaign, by other means than those that made it or checked it before.

What belongs here: reasons to refuse publication. What does not: checks that inform (see `quality`), rendering.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from recoflow.campaigns import rules
from recoflow.campaigns import staged as staging
from recoflow.errors import AuditError
from recoflow.quality.finding import Finding
from recoflow.storage import artifacts, sql

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

    from recoflow.campaigns.staged import Staged, StagedFiles
    from recoflow.models.bundle import Bundle

_LIMITS: Final = pl.Schema({"recipe": pl.Int64, "number": pl.Int64, "least": pl.Int64, "most": pl.Int64})
_MEETING: Final = pl.Schema({"recipe": pl.Int64, "number": pl.Int64, "item_id": pl.String})

CURE: Final = "Materialize campaign_recommendations of this campaign again; nothing was published"

AUDIT_CHECKS: Final = {
    "files_unchanged": "Every staged file has the sha256 of its manifest.",
    "model_sound": "The model at hand is the one that ranked, and its numbers are finite.",
    "order_kept": "Lists stand in the order of the request, ranks are 1, 2, … N, scores are finite and, without "
    "diversity, never rise.",
    "rows_match": "Every list is for its row of the request, not longer than asked for, and counted.",
    "items_recommendable": "Every item is known, enabled and available.",
    "no_item_repeated": "No list holds an item twice, no subject gets one in two lists unless that is allowed.",
    "nothing_consumed": "No subject gets an item that it consumed.",
    "constraints_hold": "No list exceeds a maximum of its configuration; places that a minimum lacks are empty.",
    "counts_add_up": "The manifest's counts are those of the files.",
}

# One row per list; `place` counts the rows of a file. Places that follow each other and differ from the ranks by one
# number make the ranks 1 … N in this order. Lists whose items' hashes differ hold no item twice; others may.
_LISTS: Final = """
CREATE TEMP TABLE lists AS
SELECT
    row, count(*) AS items, min(part) AS part, min(place) AS first_place,
    min(part) = max(part) AND min(rank) = 1 AND max(rank) = count(*) AND min(place - rank) = max(place - rank)
        AND max(place) - min(place) + 1 = count(*) AND bool_and(isfinite(score)) AS is_ordered,
    list_unique(list(hash(item_id))) = count(*) AS is_varied
FROM recommendations GROUP BY row
"""

_DISORDER: Final = """
SELECT row FROM (
    SELECT row, is_ordered, part, first_place,
        lag(part) OVER by_row AS part_before, lag(first_place) OVER by_row AS before
    FROM lists WINDOW by_row AS (ORDER BY row)
) WHERE NOT is_ordered OR part_before > part OR (part_before = part AND before >= first_place)
UNION ALL
SELECT row FROM (
    SELECT row FROM (
        SELECT
            row, score, part, place,
            lead(row) OVER () AS row_below, lead(score) OVER () AS score_below,
            lead(part) OVER () AS part_below, lead(place) OVER () AS place_below
        FROM recommendations
    ) WHERE row_below = row AND (score_below > score OR part_below <> part OR place_below <> place + 1)
) SEMI JOIN (FROM requests WHERE is_by_score) USING (row)
"""

_MISMATCHES: Final = """
SELECT row FROM lists FULL JOIN requests USING (row)
WHERE requests.line IS NULL OR coalesce(lists.items, 0) <> requests.items OR requests.items > requests.list_size
UNION ALL
SELECT given.row FROM recommendations given JOIN requests asked ON given.row = asked.row
WHERE given.campaign_id <> $campaign_id OR given.request_id <> asked.request_id OR given.user_group <> asked.user_group
    OR given.version <> asked.version OR given.list_name <> asked.list_name OR given.page_type <> asked.page_type
    OR given.user_id IS DISTINCT FROM asked.user_id OR given.device_id IS DISTINCT FROM asked.device_id
"""

_FOREIGN_ITEMS: Final = """
SELECT item_id FROM recommendations ANTI JOIN (FROM items WHERE is_enabled AND is_available) USING (item_id)
"""

# The cheap question first: who asks for several lists, and which list may hold an item twice? Mostly none.
_REPEATED: Final = """
WITH several AS (SELECT subject, min(row) AS person FROM requests GROUP BY subject HAVING count(*) > 1),
suspects AS MATERIALIZED (
    SELECT row, may_repeat, coalesce(person, row) AS person
    FROM requests JOIN lists USING (row) LEFT JOIN several USING (subject) WHERE person IS NOT NULL OR NOT is_varied
)
SELECT item_id FROM recommendations JOIN suspects USING (row)
GROUP BY person, item_id HAVING count(*) > count(DISTINCT row) OR max(row) FILTER (NOT may_repeat) > min(row)
"""

# By numbers, because what people consumed is many times what they are recommended.
_CONSUMED: Final = """
WITH asked AS MATERIALIZED (
    SELECT row, consumed_types, subjects.number AS subject FROM requests JOIN subjects USING (subject)
    WHERE consumed_types <> 0
)
SELECT item_id FROM recommendations JOIN asked USING (row) JOIN items USING (item_id)
    JOIN seen ON seen.subject = asked.subject AND seen.item = items.number
WHERE seen.event_types & consumed_types <> 0
"""


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


def audit(staged: Staged, bundle: Bundle) -> list[Finding]:
    """Check a staged campaign once more, right before it is published.

    Args:
        staged: what is to be published.
        bundle: the model that ranked it, loaded and brought up to date anew.

    Returns:
        A passed finding for each of AUDIT_CHECKS.

    Raises:
        AuditError: naming the first check that failed.
    """
    findings = list(inspect(staged, bundle))
    for finding in findings:
        if not finding.passed:
            raise AuditError(f"campaign {staged.name}: {finding.check}", finding.message, CURE)
    return findings


def inspect(staged: Staged, bundle: Bundle) -> Iterator[Finding]:
    """Findings of AUDIT_CHECKS in their order; none behind a failed one that makes the rest meaningless."""
    unchanged = files_unchanged(staged)
    yield unchanged
    yield model_sound(staged, bundle)
    if unchanged.passed:
        with sql.connect() as connection:
            _register(connection, staged, bundle)
            for check in _TABLE_CHECKS:
                yield check(connection, staged)


def files_unchanged(staged: StagedFiles) -> Finding:
    """The check of that name."""
    present = {path.name for path in staged.folder.glob("*.parquet")}
    expected = {staging.REQUESTS_FILE, staging.ERRORS_FILE, *staged.files}
    if not staged.parts or present != expected:
        return _found("files_unchanged", sorted(present ^ expected) or ["no recommendations"])
    changed = [name for name, digest in staged.files.items() if artifacts.sha256(staged.folder / name) != digest]
    return _found("files_unchanged", changed)


def model_sound(staged: StagedFiles, bundle: Bundle) -> Finding:
    """The check of that name."""
    other = [] if bundle.version == staged.model_version else [f"{staged.model_version} is not {bundle.version}"]
    numbers = ("user_factors", "item_factors", "popular", "trending")
    broken = [f"{name} hold NaN or infinity" for name in numbers if not np.isfinite(getattr(bundle, name)).all()]
    return _found("model_sound", other + broken)


def _register(connection: duckdb.DuckDBPyConnection, staged: Staged, bundle: Bundle) -> None:
    connection.execute(f"CREATE TEMP VIEW recommendations AS {numbered(staged.parts)}")
    connection.execute(f"CREATE TEMP VIEW requests AS FROM {sql.parquet([str(staged.requests)])}")
    register_bundle(connection, bundle)
    limits, meeting = _constraints(staged, bundle.items)
    connection.register("limits", limits.to_arrow())
    connection.register("meeting", meeting.to_arrow())
    connection.execute(_LISTS)


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


def _constraints(staged: Staged, items: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
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
    (wanted,) = rules.texts(comparison["value"])
    found = []
    for item_type, text in items.select("item_type", "attributes").iter_rows():
        answers = rules.texts((json.loads(text or "{}") | {rules.ITEM_TYPE: item_type}).get(query["key"]))
        is_met = set(answers) == {wanted} if query["match"] else wanted in answers
        found.append(is_met != comparison["not"])
    return pl.Series(found, dtype=pl.Boolean)


@dataclass(frozen=True)
class _NoRows:
    """A check that passes when its query finds nothing."""

    name: str
    query: str

    def __call__(self, connection: duckdb.DuckDBPyConnection, staged: Staged) -> Finding:
        values = {"campaign_id": staged.campaign_id} if "$campaign_id" in self.query else {}
        query = f"SELECT count(*), min(found) FROM ({self.query}) AS wrong(found)"
        ((cases, example),) = connection.execute(query, values).fetchall()
        return _found(self.name, [f"{cases} cases, e.g. {example}"] if cases else [])


def _counts(connection: duckdb.DuckDBPyConnection, staged: Staged) -> Finding:
    (found,) = connection.execute(
        "SELECT count(*), count(*) FILTER (user_group = 'fallback'), count(*) FILTER (items < list_size), "
        "count(*) FILTER (items = 0), coalesce(sum(items), 0)::BIGINT FROM requests"
    ).fetchall()
    counts = staged.counts
    expected = (counts.answered, counts.fallback, counts.short, counts.empty, counts.items)
    is_whole = counts.read == counts.answered + counts.failed
    return _found("counts_add_up", [] if found == expected and is_whole else [f"{found} instead of {expected}"])


_TABLE_CHECKS: Final[tuple[Callable[[duckdb.DuckDBPyConnection, Staged], Finding], ...]] = (
    _NoRows("order_kept", _DISORDER),
    _NoRows("rows_match", _MISMATCHES),
    _NoRows("items_recommendable", _FOREIGN_ITEMS),
    _NoRows("no_item_repeated", _REPEATED),
    _NoRows("nothing_consumed", _CONSUMED),
    _NoRows("constraints_hold", _UNCONSTRAINED),
    _counts,
)


def found(check: str, meaning: str, problems: list[str]) -> Finding:
    """The finding of a check that passes where there are no problems."""
    if not problems:
        return Finding(check, passed=True, message=meaning)
    return Finding(check, passed=False, message=f"Not so: {meaning} {'; '.join(problems)}")


def _found(check: str, problems: list[str]) -> Finding:
    return found(check, AUDIT_CHECKS[check], problems)
