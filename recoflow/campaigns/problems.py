"""What is wrong with single rows of a request file, as rules over columns.

What belongs here: the shape of a rule and of row errors. What does not: the rules (see `request`, `audience_request`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

ERRORS: Final = pl.Schema({"line": pl.Int64, "column": pl.String, "code": pl.String, "message": pl.String})
SHOWN: Final = 60  # characters of a cell or name that a message repeats


@dataclass(frozen=True)
class Problem:
    """One rule: which rows break it, and what is said about each."""

    code: str
    column: str
    is_broken: pl.Expr
    message: pl.Expr

    def rows(self, rows: pl.DataFrame) -> pl.DataFrame:
        """ERRORS of the rows that break the rule."""
        return rows.filter(self.is_broken.fill_null(value=False)).select(
            pl.col("line"),
            pl.lit(self.column).alias("column"),
            pl.lit(self.code).alias("code"),
            self.message.alias("message"),
        )


def bad_size(column: str, most: int) -> Problem:
    """The rule that a column holds an integer from 1 to `most`."""
    size = pl.col(column).str.strip_chars()
    is_size = size.str.contains(r"\A[0-9]{1,9}\z") & size.cast(pl.Int64, strict=False).is_between(1, most)
    message = pl.format(f"{column} is '{{}}', not an integer from 1 to {most}.", shown(column))
    return Problem(f"bad_{column}", column, ~is_size.fill_null(value=False), message)


def shown(column: str) -> pl.Expr:
    """A cell as messages repeat it."""
    return pl.col(column).fill_null("").str.slice(0, SHOWN)
