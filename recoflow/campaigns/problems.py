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
SHOWN: Final = 60  # characters of a cell or name that a message repeats


@dataclass(frozen=True)
class Problem:
    """One rule: which rows break it, and what is said about each, or once about all of them."""

    code: str
    column: str
    is_broken: pl.Expr
    message: pl.Expr
    is_told_once: bool = False


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
            errors.append(told.head(1) if problem.is_told_once else told)
    sound = rows.filter(~is_broken.select(pl.any_horizontal(pl.all())).to_series())
    return sound, pl.concat(errors)


def bad_size(column: str, most: int) -> Problem:
    """The rule that a column holds an integer from 1 to `most`."""
    size = pl.col(column).str.strip_chars()
    is_size = size.str.contains(r"\A[0-9]{1,9}\z") & size.cast(pl.Int64, strict=False).is_between(1, most)
    message = pl.format(f"{column} is '{{}}', not an integer from 1 to {most}.", shown(column))
    return Problem(f"bad_{column}", column, ~is_size.fill_null(value=False), message)


def unknown_column(name: str, problem: str) -> Problem:
    """The rule that a column of the file that nothing is known of is empty; told once, with the number of its rows.

    In the rows its name has the prefix VARIABLE.
    """
    message = pl.format("Column '{}' {} ({} rows).", pl.lit(name[:SHOWN]), pl.lit(problem), pl.len())
    return Problem("unknown_variable", name, pl.col(VARIABLE + name).is_not_null(), message, is_told_once=True)


def shown(column: str) -> pl.Expr:
    """A cell as messages repeat it."""
    return pl.col(column).fill_null("").str.slice(0, SHOWN)
