"""The publisher's own check of a staged campaign, by other means than those that made it or checked it before.

What belongs here: reasons to refuse publication. What does not: checks that inform (see `quality`), rendering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from recoflow.campaigns import staged as staging
from recoflow.errors import AuditError
from recoflow.quality.finding import Finding
from recoflow.storage import artifacts, sql

if TYPE_CHECKING:
    import duckdb

    from recoflow.campaigns.staged import Staged
    from recoflow.models.bundle import Bundle

CURE: Final = "Materialize campaign_recommendations of this campaign again; nothing was published"

AUDIT_CHECKS: Final = {
    "files_unchanged": "Every staged file has the sha256 of its manifest.",
    "model_sound": "The model at hand is the one that ranked, and its numbers are finite.",
    "order_kept": "Lists stand in the order of the request, ranks are 1, 2, … N, scores are finite and never rise.",
    "rows_match": "Every list is for its row of the request, not longer than asked for, and counted.",
    "items_recommendable": "Every item is known, enabled and available.",
    "no_item_repeated": "No list holds an item twice, no subject gets one in two lists unless that is allowed.",
    "nothing_consumed": "No subject gets an item that it consumed.",
    "counts_add_up": "The manifest's counts are those of the files.",
}

# One row per list; `place` counts the rows of a file. Places that follow each other and differ from the ranks by one
# number make the ranks 1 … N in this order.
_LISTS: Final = """
CREATE TEMP TABLE lists AS
SELECT
    row, count(*) AS items, min(part) AS part, min(place) AS first_place,
    min(part) = max(part) AND min(rank) = 1 AND max(rank) = count(*) AND min(place - rank) = max(place - rank)
        AND max(place) - min(place) + 1 = count(*) AND bool_and(isfinite(score)) AS is_ordered
FROM recommendations GROUP BY row
"""

_DISORDER: Final = """
SELECT row FROM (
    SELECT row, is_ordered, part, first_place,
        lag(part) OVER by_row AS part_before, lag(first_place) OVER by_row AS before
    FROM lists WINDOW by_row AS (ORDER BY row)
) WHERE NOT is_ordered OR part_before > part OR (part_before = part AND before >= first_place)
UNION ALL
SELECT above.row FROM recommendations above JOIN recommendations below
    ON above.part = below.part AND above.place + 1 = below.place AND above.row = below.row
WHERE below.score > above.score
"""

_MISMATCHES: Final = """
SELECT row FROM lists FULL JOIN requests USING (row)
WHERE requests.line IS NULL OR coalesce(lists.items, 0) <> requests.items OR requests.items > requests.list_size
UNION ALL
SELECT given.row FROM recommendations given JOIN requests asked ON given.row = asked.row
WHERE given.campaign_id <> $campaign_id OR given.request_id <> asked.request_id OR given.user_group <> asked.user_group
    OR given.list_name <> asked.list_name OR given.page_type <> asked.page_type
    OR given.user_id IS DISTINCT FROM asked.user_id OR given.device_id IS DISTINCT FROM asked.device_id
"""

_FOREIGN_ITEMS: Final = """
SELECT item_id FROM recommendations ANTI JOIN (FROM items WHERE is_enabled AND is_available) USING (item_id)
"""

# The cheap question first: what does a subject get more than once? Only of that little, whether it is allowed.
_REPEATED: Final = """
WITH people AS MATERIALIZED (SELECT row, may_repeat, min(row) OVER (PARTITION BY subject) AS person FROM requests),
suspects AS MATERIALIZED (
    SELECT person, item_id FROM recommendations JOIN people USING (row) GROUP BY person, item_id HAVING count(*) > 1
)
SELECT item_id FROM recommendations JOIN people USING (row) JOIN suspects USING (person, item_id)
GROUP BY person, item_id HAVING count(*) > count(DISTINCT row) OR max(row) FILTER (NOT may_repeat) > min(row)
"""

_CONSUMED: Final = """
SELECT item_id FROM recommendations JOIN requests USING (row) JOIN seen USING (subject, item_id)
WHERE seen.event_types & consumed_types <> 0
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
    unchanged = _files(staged)
    yield unchanged
    yield _model(staged, bundle)
    if unchanged.passed:
        with sql.connect() as connection:
            _register(connection, staged, bundle)
            for check in _TABLE_CHECKS:
                yield check(connection, staged)


def _files(staged: Staged) -> Finding:
    present = {path.name for path in staged.folder.glob("*.parquet")}
    expected = {staging.REQUESTS_FILE, staging.ERRORS_FILE, *staged.files}
    if not staged.parts or present != expected:
        return _found("files_unchanged", sorted(present ^ expected) or ["no recommendations"])
    changed = [name for name, digest in staged.files.items() if artifacts.sha256(staged.folder / name) != digest]
    return _found("files_unchanged", changed)


def _model(staged: Staged, bundle: Bundle) -> Finding:
    other = [] if bundle.version == staged.model_version else [f"{staged.model_version} is not {bundle.version}"]
    numbers = ("user_factors", "item_factors", "popular", "trending")
    broken = [f"{name} hold NaN or infinity" for name in numbers if not np.isfinite(getattr(bundle, name)).all()]
    return _found("model_sound", other + broken)


def _register(connection: duckdb.DuckDBPyConnection, staged: Staged, bundle: Bundle) -> None:
    parts = " UNION ALL ".join(
        f"SELECT *, {number} AS part, file_row_number AS place "
        f"FROM read_parquet({sql.quoted(str(part))}, file_row_number = true)"
        for number, part in enumerate(staged.parts)
    )
    connection.execute(f"CREATE VIEW recommendations AS {parts}")
    connection.execute(f"CREATE VIEW requests AS FROM {sql.parquet([str(staged.requests)])}")
    connection.register("items", bundle.items.to_arrow())
    subjects = pl.Series(bundle.subjects, dtype=pl.String)
    owners = np.repeat(np.arange(len(subjects)), np.diff(bundle.seen_indptr))
    items = bundle.items["item_id"].gather(np.asarray(bundle.seen_indices))
    seen = {"subject": subjects.gather(owners), "item_id": items, "event_types": np.asarray(bundle.seen_types)}
    connection.register("seen", pl.DataFrame(seen).to_arrow())
    connection.execute(_LISTS)


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
    _counts,
)


def _found(check: str, problems: list[str]) -> Finding:
    if not problems:
        return Finding(check, passed=True, message=AUDIT_CHECKS[check])
    return Finding(check, passed=False, message=f"Not so: {AUDIT_CHECKS[check]} {'; '.join(problems)}")
