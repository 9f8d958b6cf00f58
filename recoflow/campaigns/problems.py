"""What is wrong with single rows of a request file, as rules over columns.

What belongs here: the shape of a rule and of row errors. What does not: the rules (see `request`, `audience_request`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

ERRORS: Final = pl.Schema({"line": pl.Int64, "column": pl.String, "code": pl.String, "message": pl.String})
VARIABLE: Final = "variable:"  # prefix of what a file may call as it likes, so that it may call it `line`
LISTED: Final = 100_000  # errors of one file
SHOWN: Final = 60  # characters of a cell or name that a message repeats


@dataclass(frozen=True)
class Problem:
    """One rule: which rows break it, and what is said about each."""

    code: str
    column: str
    is_broken: pl.Expr
    message: pl.Expr


def sift(rows: pl.DataFrame, problems: Sequence[Problem]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows that break no rule, and ERRORS of the others: rule by rule, a row that breaks two of them twice."""
    names = [str(number) for number in range(len(problems))]
    is_broken = rows.select(
        each.is_broken.fill_null(value=False).alias(name) for name, each in zip(names, problems, strict=True)
    )
    errors = [ERRORS.to_frame()]
    for name, problem in zip(names, problems, strict=True):
        if is_broken[name].any():
            told = rows.filter(is_broken[name]).select(
                pl.col("line"),
                pl.lit(problem.column).alias("column"),
                pl.lit(problem.code).alias("code"),
                problem.message.alias("message"),
            )
            errors.append(told)
    sound = rows.filter(~is_broken.select(pl.any_horizontal(pl.all())).to_series())
    return sound, pl.concat(errors)


def bad_size(column: str, most: int) -> Problem:
    """The rule that a column holds an integer from 1 to `most`."""
    size = pl.col(column).str.strip_chars()
    is_size = size.str.contains(r"\A[0-9]{1,9}\z") & size.cast(pl.Int64, strict=False).is_between(1, most)
    message = pl.format(f"{column} is '{{}}', not an integer from 1 to {most}.", shown(column))
    return Problem(f"bad_{column}", column, ~is_size.fill_null(value=False), message)


class Strangers:
    """Columns of the file that nothing is known of: rows in which one is not empty fail, and it is told of once.

    In the rows their names have the prefix VARIABLE.

    Args:
        names: of the columns.
        problem: what is wrong with them.
    """

    def __init__(self, names: Sequence[str], problem: str) -> None:
        self._names, self._problem = names, problem
        self._met: dict[str, tuple[int, int]] = {}  # name → first line, and how many rows

    def sift(self, rows: pl.DataFrame, sound: pl.DataFrame) -> pl.DataFrame:
        """Those of the `sound` rows in which these columns are empty, without them; `rows` are all of a block."""
        for name in self._names:
            lines = rows["line"].filter(rows[VARIABLE + name].is_not_null())
            if len(lines):
                first, count = self._met.get(name, (int(lines[0]), 0))
                self._met[name] = first, count + len(lines)
        columns = [VARIABLE + name for name in self._names]
        return sound.filter(pl.all_horizontal(pl.col(columns).is_null())).drop(columns) if columns else sound

    def errors(self) -> pl.DataFrame:
        """ERRORS: one for each column that was not empty."""
        told = [
            (line, name, "unknown_variable", f"Column '{name[:SHOWN]}' {self._problem} ({count} rows).")
            for name, (line, count) in self._met.items()
        ]
        return pl.DataFrame(told, ERRORS, orient="row")


class Errors:
    """Row errors of a file, of which so many are listed as a person may read; the rest is counted."""

    def __init__(self) -> None:
        self._listed: list[pl.DataFrame] = [ERRORS.to_frame()]
        self._room, self._more = LISTED, 0

    def add(self, errors: pl.DataFrame) -> None:
        """Take up ERRORS."""
        self._listed.append(errors.head(self._room).cast(ERRORS))
        self._more += max(0, len(errors) - self._room)
        self._room -= min(self._room, len(errors))

    def listed(self) -> pl.DataFrame:
        """ERRORS in the order of lines; the last one tells how many more there are, if any."""
        message = f"{self._more:,} more errors are not listed. Mend these, and validate the file again."
        more = pl.DataFrame([(None, None, "more_errors", message)] if self._more else [], ERRORS, orient="row")
        return pl.concat([pl.concat(self._listed).sort("line", maintain_order=True), more])


def shown(column: str) -> pl.Expr:
    """A cell as messages repeat it."""
    return pl.col(column).fill_null("").str.slice(0, SHOWN)
