"""Header and cells of a request file: every cell stays text, so that `007` stays `007`.

What belongs here: what makes a header, and rows that fit it. What does not: bytes (see `csv_framing`), the meaning of
cells (see `list_rows`).
"""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from recoflow.campaigns.requests import csv_framing
from recoflow.campaigns.requests.rejection import TRUNCATED, RequestRejectedError, rejected
from recoflow.formats.fields import BLANK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    import pyarrow as pa
    from pyarrow import csv

    from recoflow.settings.environment import Environment

COLUMNS: Final = ("environment", "user_id", "device_id", "list_name", "list_size", "configuration_id", "page_type")
REQUIRED: Final = ("environment", "list_name", "list_size", "page_type")
PERSON: Final = ("user_id", "device_id")
AUDIENCE_COLUMNS: Final = ("environment", "item_id", "audience_size", "audience_name")
AUDIENCE_REQUIRED: Final = ("environment", "item_id", "audience_size")

LINE: Final = "line:"  # no name of a column in a file can hide it: those of variables are prefixed before they meet
BYTE_ORDER_MARK: Final = "\ufeff"
END_OF_FILE: Final = "\x1a"  # of MS-DOS, e.g. from `copy a.csv+b.csv`

MAX_COLUMNS: Final = 1000
MAX_ROW: Final = 1 << 24  # bytes, about

_QUOTES = frozenset("“”„‟‘’")
_SHOWN = 60  # characters of a header name that a message repeats


@dataclass(frozen=True)
class RequestCells:
    """A request file whose header was read.

    Attributes:
        header: the names of the columns; those of COLUMNS, or of AUDIENCE_COLUMNS where it `is_for_audiences`, are
            columns of every block even where the file lacks them.
        blocks: the rows, block by block: Int64 `line:`, at which each row begins, and a String column for each name,
            all cells as text, an empty one null. Rows without content are no rows.
        rows: how many there may be: those without content and those of `repeated` are counted.
        repeated: the lines of rows that repeat the header, as far as the blocks were read; they are no rows.
    """

    header: tuple[str, ...]
    blocks: Iterator[pl.DataFrame]
    rows: int
    repeated: list[int]


def read_cells(
    path: Path, is_compressed: bool, environment: Environment, *, chunk_bytes: int = csv_framing.CHUNK
) -> RequestCells:
    """Find the rows of a request file, and read its header.

    Raises:
        RequestRejectedError: those of `csv_framing.scan`, `curly_quotes`, `missing_header`, `unnamed_column`,
            `duplicate_column`, `too_many_columns`, `mixed_columns`, `missing_column` or `no_rows`; as the blocks are
            read `wrong_environment`, `second_header`, `ragged_row`, `unreadable`, `truncated` or `no_rows`.
    """
    found = csv_framing.scan_rows(
        path,
        is_compressed=is_compressed,
        max_bytes=min(environment.sftp.max_bytes, environment.campaigns.max_request_bytes),
        max_rows=environment.campaigns.max_lists,
        chunk_bytes=chunk_bytes,
    )
    header = _check_header(found)
    if not len(found.lines):
        raise _no_rows()
    columns = AUDIENCE_COLUMNS if is_for_audiences(header) else COLUMNS
    missing = tuple(column for column in columns if column not in header)
    repeated: list[int] = []
    blocks = _own_rows(
        _blocks(path, is_compressed, header, found, MAX_ROW + chunk_bytes), header, environment.name, repeated
    )
    nothing = [pl.lit(None, pl.String).alias(column) for column in missing]
    return RequestCells(
        (*header, *missing), (block.with_columns(nothing) for block in blocks), len(found.lines), repeated
    )


def is_for_audiences(header: Collection[str]) -> bool:
    """Whether the columns ask for people for items (audiences), not for items for people (lists)."""
    own, of_lists = {*AUDIENCE_COLUMNS[1:]}.intersection(header), {*COLUMNS[1:]}.intersection(header)
    return "audience_size" in own or (bool(own) and not of_lists)


def stripped_text(column: str) -> pl.Expr:
    """A cell without blanks around it, null where that leaves nothing; as events read their texts."""
    stripped = pl.col(column).str.strip_chars(BLANK)
    return pl.when(stripped.str.len_bytes() > 0).then(stripped).alias(column)


def check_cells(rows: int, filters: int, limit: int) -> None:
    """Refuse a file whose cells, those of the known columns and of columns that filter, take more memory than `limit`.

    Raises:
        RequestRejectedError: `too_many_cells`.
    """
    if (cells := rows * (len(COLUMNS) + filters)) > limit:
        problem = f"{rows:,} rows with {filters:,} columns that filter are {cells:,} cells, {limit:,} is the limit"
        raise rejected("too_many_cells", problem, "Split it into several files, or leave out columns")


def check_volume(sizes: pl.Series, limit: int) -> None:
    """Refuse a file whose sizes sum to more than `limit`.

    Raises:
        RequestRejectedError: `too_many_items`.
    """
    if (total := int(sizes.sum())) > limit:
        problem = f"the file asks for {total:,} items, {limit:,} is the limit"
        if sizes.name == "audience_size":
            problem = f"the file asks for {total:,} people, {limit:,} is the limit"
        raise rejected("too_many_items", problem, "Split it into several files, or ask for less")


def _check_header(found: csv_framing.Framing) -> tuple[str, ...]:
    """The names of the columns, trimmed."""
    header = tuple(cell.strip() for cell in found.header)
    line = found.header_line
    if curly := next((cell for cell in header if not _QUOTES.isdisjoint(cell)), None):
        cure = 'Replace typographic quotes by " in the whole file'
        raise rejected("curly_quotes", f"the header's {curly[:_SHOWN]} has curly quotes", cure, line=line, column=curly)
    if not {*COLUMNS, *AUDIENCE_COLUMNS} & {*header}:
        cure = f"Begin the file with a header like {','.join(COLUMNS)}"
        raise rejected("missing_header", "the first line names none of the columns", cure, line=line)
    for cell in header:
        if not cell or "\n" in cell:
            raise rejected("unnamed_column", "a column has no usable name", "Name every column", line=line)
        if header.count(cell) > 1:
            cure = "Keep one of the two"
            raise rejected("duplicate_column", f"column '{cell[:_SHOWN]}' stands twice", cure, line=line, column=cell)
    if len(header) > MAX_COLUMNS:
        problem = f"the file has {len(header):,} columns, {MAX_COLUMNS:,} is the limit"
        raise rejected("too_many_columns", problem, "Leave out those that are no variables of this campaign", line=line)
    missing = [column for column in _required(header, line) if column not in header]
    if missing:
        if not found.is_terminated and not len(found.lines):
            raise rejected(TRUNCATED, "the file ends within its header", "Upload the whole file again", line=line)
        raise _missing_column(missing[0], header, line)
    return header


def _required(header: tuple[str, ...], line: int) -> tuple[str, ...]:
    if not is_for_audiences(header):
        return REQUIRED if {*PERSON} & {*header} else (*REQUIRED, "user_id")
    of_lists = next((column for column in header if column in COLUMNS[1:]), None)
    if of_lists is not None:
        problem = f"'audience_size' asks for audiences and '{of_lists}' for lists"
        raise rejected("mixed_columns", problem, "Put them into two files", line=line, column=of_lists)
    return AUDIENCE_REQUIRED


def _missing_column(column: str, header: tuple[str, ...], line: int) -> RequestRejectedError:
    similar = difflib.get_close_matches(column, [cell.lower() for cell in header], n=1)
    original = next((cell for cell in header if similar and cell.lower() == similar[0]), None)
    cure = f"Rename '{original[:_SHOWN]}' to '{column}'" if original else f"Add the column '{column}' and its values"
    return rejected("missing_column", f"column '{column}' is missing", cure, line=line, column=column)


def _no_rows() -> RequestRejectedError:
    return rejected("no_rows", "the file has a header and no row", "Add one row for each list")


def _blocks(
    path: Path, is_compressed: bool, header: tuple[str, ...], found: csv_framing.Framing, max_block: int
) -> Iterator[pl.DataFrame]:
    """The rows of the file with their lines, but for those that have no content and another number of cells."""
    place, before = 0, found.header_line  # rows, and lines that are none, before those of a block
    with _opened(path, is_compressed) as source:
        for number, size in enumerate(found.blocks, start=1):
            if size > max_block:  # a block begins less than a chunk before its last row
                raise rejected("unreadable", f"a row is longer than {MAX_ROW:,} bytes", "Mend the file")
            is_last = number == len(found.blocks)
            text = source.read(None if is_last else size)  # the last one to the end, which gzip has to judge
            table, misfits = _parsed(text, header, before)
            is_row = np.ones(len(table) + len(misfits), np.bool_)
            for misfit, cells, row in misfits:
                if not csv_framing.is_empty(row):
                    raise _misfit(place + misfit, cells, row, len(header), found)
                is_row[misfit] = False
            numbers = place + np.flatnonzero(is_row)
            place, before = place + len(is_row), 0
            if len(numbers) and numbers[-1] < len(found.lines):
                block = pl.DataFrame(pl.from_arrow(table)).with_columns(pl.Series(LINE, found.lines[numbers]))
                yield _without_end_of_file(block, header[-1]) if numbers[-1] == len(found.lines) - 1 else block
    if place != len(found.lines):
        raise rejected("unreadable", "its rows cannot be told apart", "Quote cells that hold quotes or line ends")


@contextmanager
def _opened(path: Path, is_compressed: bool) -> Iterator[pa.NativeFile]:
    import pyarrow as pa  # noqa: PLC0415 - late, like all that only campaigns need

    with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, "gzip") if is_compressed else file as source:
        try:
            yield source
        except pa.ArrowInvalid as error:
            raise rejected("unreadable", f"the file is not CSV: {str(error)[:200]}", "Mend the file") from None
        except OSError as error:
            if error.errno is not None:
                raise  # the disk's, not the file's
            problem = f"the gzip stream has something behind its end: {str(error)[:200]}"
            raise rejected("not_gzip", problem, "Compress the file again") from None


def _parsed(text: bytes, header: tuple[str, ...], before: int) -> tuple[pa.Table, list[tuple[int, int, str]]]:
    """Whole rows behind so many lines that are none; of those with another number of cells their place, cells and text.

    pyarrow's own reader of files takes dozens of blocks from the disk before they are asked for.
    """
    import pyarrow as pa  # noqa: PLC0415 - late, like all that only campaigns need
    from pyarrow import csv  # noqa: PLC0415

    misfits: list[tuple[int, int, str]] = []

    def note(row: csv.InvalidRow) -> str:  # must not raise
        misfits.append((row.number - 1 - before, row.actual_columns, row.text))
        return "skip"

    table = csv.read_csv(
        pa.BufferReader(text),
        csv.ReadOptions(use_threads=False, column_names=header, skip_rows=before, block_size=len(text)),
        csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
        csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )
    return table, misfits


def _without_end_of_file(block: pl.DataFrame, last: str) -> pl.DataFrame:
    """The last block without the mark that ended files of MS-DOS, right behind the last cell."""
    if not (block[last][-1] or "").endswith(END_OF_FILE):
        return block
    text = pl.col(last).str.strip_chars_end(END_OF_FILE)
    return block.with_columns(pl.when(text.str.len_bytes() > 0).then(text).alias(last))


def _own_rows(
    blocks: Iterator[pl.DataFrame], header: tuple[str, ...], environment: str, repeated: list[int]
) -> Iterator[pl.DataFrame]:
    """The rows for this environment: without those that have no content, or repeat the header.

    Raises:
        RequestRejectedError: `wrong_environment`, `second_header` or `no_rows`.
    """
    is_any = False
    own = pl.Series([environment], dtype=pl.String)
    for block in blocks:
        if (is_other := block["environment"].ne_missing(own)).any():  # else there is nothing to look at
            others = block.filter(is_other)
            cells = others.select(pl.col(header).str.strip_chars(BLANK + END_OF_FILE + BYTE_ORDER_MARK).fill_null(""))
            is_empty, is_header = cells.select(
                pl.all_horizontal(pl.all() == "").alias("is_empty"),
                pl.all_horizontal(pl.col(name) == name for name in header).alias("is_header"),
            )
            is_foreign = ~is_empty & ~is_header & cells["environment"].ne_missing(own)
            if is_foreign.any():
                first = is_foreign.arg_true()[0]
                raise _foreign(cells["environment"][first], others[LINE][first], header, environment)
            repeated += others[LINE].filter(is_header).to_list()
            block = block.filter(~is_other.scatter(is_other.arg_true(), is_empty | is_header))  # noqa: PLW2901
        is_any |= len(block) > 0
        if len(block):
            yield block
    if not is_any:
        raise _no_rows()


def _foreign(found: str, line: int, header: tuple[str, ...], environment: str) -> RequestRejectedError:
    if found in header:
        return _second_header(line)
    problem = f"line {line} names environment '{found[:_SHOWN]}'" if found else f"line {line} names none"
    cure = f"This account is for '{environment}' only: write it into every row"
    return rejected("wrong_environment", problem, cure, line=line, column="environment")


def _second_header(line: int) -> RequestRejectedError:
    problem = f"a second header stands at line {line}, with other columns than the first"
    return rejected("second_header", problem, "Upload the files one by one", line=line)


def _misfit(row: int, cells: int, text: str, columns: int, found: csv_framing.Framing) -> RequestRejectedError:
    line = int(found.lines[min(row, len(found.lines) - 1)])
    if len({*COLUMNS, *AUDIENCE_COLUMNS}.intersection(cell.strip(f'"{BLANK}') for cell in text.split(","))) > 1:
        return _second_header(line)
    if row >= len(found.lines) - 1 and cells < columns:
        problem = f"the last row has {cells} of {columns} cells"
        return rejected(TRUNCATED, problem, "Upload the whole file again", line=line)
    problem = f"line {line} has {cells} cells, the header has {columns}"
    return rejected("ragged_row", problem, "Give every row one cell per column, and quote cells with commas", line=line)
