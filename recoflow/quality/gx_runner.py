"""Checks over Parquet files by great-expectations on DuckDB.

What does not belong here: which checks there are (`campaigns.publishing.checks`).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from recoflow.compute.collector import collector_paused
from recoflow.quality.finding import Finding
from recoflow.storage.scratch import Scratch

EXAMPLES = 5
PEOPLE = frozenset({"user_id", "device_id", "subject"})  # columns whose values no message repeats


@dataclass(frozen=True)
class Expectation:
    """One expectation of great-expectations.

    Attributes:
        kind: name of its class, e.g. `ExpectColumnValuesToNotBeNull`.
        arguments: of that class. In an `unexpected_rows_query`, `{batch}` is the table; other tables go by their names.
    """

    kind: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """Expectations that pass or fail under one name.

    Attributes:
        name: stable snake_case.
        table: that they are about.
        description: what is so when the check passes.
        expectations: at least one.
        severity: see `Finding`.
    """

    name: str
    table: str
    description: str
    expectations: tuple[Expectation, ...]
    severity: Literal["error", "warn"] = "error"


Tables = Mapping[str, str]
Validate = Callable[[Tables, Sequence[Check], Tables], list[Finding]]  # or in `checker_process`


def run_checks(tables: Tables, checks: Sequence[Check], derived: Tables) -> list[Finding]:
    """Run checks over tables.

    Args:
        tables: name → DuckDB's query for its rows, e.g. `FROM read_parquet(['a.parquet'])`.
        checks: to run, over `tables` and `derived`.
        derived: name → the query, over `tables`, whose rows make this table: computed once, where expectations over
            `tables` would each read the files anew.

    Returns:
        One finding for each check, in their order. An expectation that cannot be computed fails its check.
    """
    results: dict[str, list[Any]] = {check.name: [] for check in checks}
    asked = dict.fromkeys(check.table for check in checks)
    with _data_source(tables, derived, asked) as source:
        for table in asked:
            for result in _results(source, table, [check for check in checks if check.table == table]):
                results[result.expectation_config.meta["check"]].append(result)
    return [_finding(check, results[check.name]) for check in checks]


@contextmanager
def _data_source(tables: Tables, derived: Tables, asked: Container[str]) -> Iterator[Any]:
    """A great-expectations data source of views, and of what is derived from them and `asked` about."""
    with Scratch() as folder:
        path = Path(folder) / "views.duckdb"  # a file, because each pooled connection would get a memory of its own
        with duckdb.connect(str(path)) as connection:
            for table, query in tables.items():
                connection.execute(f'CREATE VIEW "{table}" AS {query}')
            for table, query in derived.items():
                kind = "TABLE" if table in asked else "TEMP TABLE"  # which need not be written
                connection.execute(f'CREATE {kind} "{table}" AS {query}')
        context = great_expectations().get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        source = context.data_sources.add_sql("files", connection_string=f"duckdb:///{path}", create_temp_table=False)
        try:
            yield source
        finally:
            source.get_engine().dispose()


def _results(source: Any, table: str, checks: Iterable[Check]) -> list[Any]:
    import sqlalchemy  # noqa: PLC0415 - late, like great_expectations

    kinds = great_expectations().expectations
    expectations = [
        getattr(kinds, each.kind)(**each.arguments, meta={"check": check.name})
        for check in checks
        for each in check.expectations
    ]
    batch = source.add_table_asset(table, table_name=table).add_batch_definition_whole_table("all").get_batch()
    engine = batch.data.execution_engine.engine
    sqlalchemy.event.listen(engine, "after_cursor_execute", _fetch_at_once)
    try:
        suite = great_expectations().ExpectationSuite(name=table, expectations=expectations)
        results: list[Any] = batch.validate(suite, result_format="SUMMARY").results
        return results
    finally:
        engine.dispose()


def _fetch_at_once(_connection: Any, cursor: Any, *execution: Any) -> None:
    """Keep a result beyond its connection: DuckDB 2 drops it when the connection goes back to the pool."""
    from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy  # noqa: PLC0415

    context = execution[2]
    if cursor.description:
        rows = cursor.fetchall()
        context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(cursor, initial_buffer=rows)


def great_expectations() -> Any:
    """The package, imported when it is first asked for."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # or it reports its use to its makers
    with warnings.catch_warnings(), collector_paused():
        warnings.simplefilter("ignore", DeprecationWarning)  # of modules that it imports
        import great_expectations  # noqa: PLC0415 - 2 to 6 s and 200 MB

    return great_expectations


def _finding(check: Check, results: Sequence[Any]) -> Finding:
    failed = [result for result in results if not result.success]
    metadata = {"expectations": len(results), "failed": len(failed)}
    if not failed:
        return Finding(check.name, passed=True, message=check.description, severity=check.severity, metadata=metadata)
    problems = [_problem(result) for result in failed]
    message = f"Not so: {check.description} {'; '.join(problems)}."
    return Finding(check.name, passed=False, message=message, severity=check.severity, metadata=metadata)


def _problem(result: Any) -> str:
    about = result.expectation_config.kwargs.get("column") or result.expectation_config.type
    raised = _exception(result.exception_info or {})
    if raised:
        return f"{about}: could not be computed: {raised}"
    details = result.result
    if "unexpected_count" in details:
        problem = f"{about}: {details['unexpected_count']} of {details['element_count']} values"
        if about in PEOPLE:
            return problem
        examples = ", ".join(str(value) for value in details.get("partial_unexpected_list", [])[:EXAMPLES])
        return f"{problem} ({examples})"
    return f"{about}: found {details.get('observed_value')}"


def _exception(info: Mapping[str, Any]) -> str | None:
    """The message of an exception, which comes alone or keyed by metric."""
    if "raised_exception" in info:
        return str(info["exception_message"]) if info["raised_exception"] else None
    messages = [_exception(each) for each in info.values() if isinstance(each, dict)]
    return next((message for message in messages if message), None)
