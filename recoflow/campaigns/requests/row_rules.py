"""What is wrong with single rows of a request file, as rules over columns.

What belongs here: the shape of a rule and of row errors. What does not: the rules (see `list_rows`, `audience_rows`).
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
class RowRule:
    """One rule: which rows break it, and what is said about each."""

    code: str
    column: str
    is_broken: pl.Expr
    message: pl.Expr

    def told(self, rows: pl.DataFrame) -> pl.DataFrame:
        """ERRORS of rows that break it."""
        column, code = pl.lit(self.column), pl.lit(self.code)
        return rows.select("line", column=column, code=code, message=self.message)


def split_valid(rows: pl.DataFrame, problems: Sequence[RowRule], errors: RowErrors) -> pl.DataFrame:
    """The rows that break no rule; the others go to the errors."""
    return rows.filter(is_sound(rows, problems, errors))


def is_sound(rows: pl.DataFrame, problems: Sequence[RowRule], errors: RowErrors) -> pl.Series:
    """Which rows break no rule; the others go to the errors rule by rule, a row that breaks two of them twice."""
    names = [str(number) for number in range(len(problems))]
    is_broken = rows.select(
        each.is_broken.fill_null(value=False).alias(name) for name, each in zip(names, problems, strict=True)
    )
    for name, problem in zip(names, problems, strict=True):
        places = is_broken[name].arg_true()
        if len(places):
            errors.add(problem.told(rows[places.head(errors.room)]), len(places))
    return ~is_broken.select(pl.any_horizontal(pl.all())).to_series()


def bad_size(column: str, most: int) -> RowRule:
    """The rule that a column holds an integer from 1 to `most`."""
    size = pl.col(column).str.strip_chars()
    is_size = size.str.contains(r"\A[0-9]{1,9}\z") & size.cast(pl.Int64, strict=False).is_between(1, most)
    message = pl.format(f"{column} is '{{}}', not an integer from 1 to {most}.", quoted_cell(column))
    return RowRule(f"bad_{column}", column, ~is_size.fill_null(value=False), message)


class UnknownColumns:
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

    def tell(self, errors: RowErrors) -> None:
        """One error for each column that was not empty."""
        told = [
            (line, name, "unknown_variable", f"Column '{name[:SHOWN]}' {self._problem} ({count} rows).")
            for name, (line, count) in self._met.items()
        ]
        errors.add(pl.DataFrame(told, ERRORS, orient="row"), len(told))


class RowErrors:
    """Row errors of a file, of which so many are listed as a person may read; the rest is counted."""

    def __init__(self) -> None:
        self._listed: list[pl.DataFrame] = [ERRORS.to_frame()]
        self._room, self._more = LISTED, 0

    @property
    def room(self) -> int:
        """How many more are listed."""
        return self._room

    def add(self, errors: pl.DataFrame, count: int) -> None:
        """Take up ERRORS, the first ones of so many: as many as there is room for, or all."""
        self._listed.append(errors.head(self._room).cast(ERRORS))
        listed = min(self._room, count)
        self._more += count - listed
        self._room -= listed

    def listed(self) -> pl.DataFrame:
        """ERRORS in the order of lines; the last one tells how many more there are, if any."""
        message = f"{self._more:,} more errors are not listed. Mend these, and validate the file again."
        more = pl.DataFrame([(None, None, "more_errors", message)] if self._more else [], ERRORS, orient="row")
        return pl.concat([pl.concat(self._listed).sort("line", maintain_order=True), more])


def quoted_cell(column: str) -> pl.Expr:
    """A cell as messages repeat it."""
    return pl.col(column).fill_null("").str.slice(0, SHOWN)
