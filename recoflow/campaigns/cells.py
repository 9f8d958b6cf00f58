"""Header and cells of a request file: every cell stays text, so that `007` stays `007`.

What belongs here: what makes a header, and rows that fit it. What does not: bytes (see `framing`), the meaning of
cells (see `request`).
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

import polars as pl

from recoflow.campaigns import framing
from recoflow.campaigns.rejection import TRUNCATED, RequestRejectedError, rejected

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import pyarrow as pa

    from recoflow.environment import Environment

COLUMNS: Final = ("environment", "user_id", "device_id", "list_name", "list_size", "configuration_id", "page_type")
REQUIRED: Final = ("environment", "list_name", "list_size", "page_type")
PERSON: Final = ("user_id", "device_id")
AUDIENCE_COLUMNS: Final = ("environment", "item_id", "audience_size", "audience_name")
AUDIENCE_REQUIRED: Final = ("environment", "item_id", "audience_size")

_QUOTES = frozenset("“”„‟‘’")
_SHOWN = 60  # characters of a header name that a message repeats


def read(path: Path, is_compressed: bool, environment: Environment) -> tuple[pl.DataFrame, pl.Series]:
    """All cells as text, an empty one null; and the line that each row begins at.

    Returns:
        A String column for each header name and each of COLUMNS, or of AUDIENCE_COLUMNS where the header
        `is_for_audiences`; and the Int64 series of lines.

    Raises:
        RequestRejectedError: those of `framing.scan`, `curly_quotes`, `missing_header`, `unnamed_column`,
            `duplicate_column`, `mixed_columns`, `missing_column`, `no_rows`, `ragged_row`, `unreadable`,
            or `truncated`.
    """
    found = framing.scan(
        path,
        is_compressed=is_compressed,
        max_bytes=environment.sftp.max_bytes,
        max_rows=environment.campaigns.max_lists,
    )
    header = _check_header(found)
    if not len(found.lines):
        raise rejected("no_rows", "the file has a header and no row", "Add one row for each list")
    table = pl.from_arrow(_read_cells(path, is_compressed, header, found))
    assert isinstance(table, pl.DataFrame)
    columns = AUDIENCE_COLUMNS if is_for_audiences(header) else COLUMNS
    missing = [pl.lit(None, pl.String).alias(column) for column in columns if column not in header]
    return table.with_columns(*missing), pl.Series("line", found.lines)


def is_for_audiences(header: Collection[str]) -> bool:
    """Whether the columns ask for people for items (audiences), not for items for people (lists)."""
    own, of_lists = {*AUDIENCE_COLUMNS[1:]}.intersection(header), {*COLUMNS[1:]}.intersection(header)
    return "audience_size" in own or (bool(own) and not of_lists)


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


def _check_header(found: framing.Framing) -> tuple[str, ...]:
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


def _read_cells(path: Path, is_compressed: bool, header: tuple[str, ...], found: framing.Framing) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415 - late, like all that only campaigns need
    from pyarrow import csv  # noqa: PLC0415

    misfits: list[tuple[int, int]] = []  # (number of the row, its cells); the handler must not raise

    def note(row: csv.InvalidRow) -> str:
        if not misfits:
            misfits.append((row.number, row.actual_columns))
        return "skip"

    with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, "gzip") if is_compressed else file as source:
        try:
            table = csv.open_csv(
                source,
                csv.ReadOptions(
                    use_threads=False, column_names=header, skip_rows=found.header_line, block_size=1 << 24
                ),
                csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
                csv.ConvertOptions(
                    column_types=dict.fromkeys(header, pa.string()),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            ).read_all()
        except pa.ArrowInvalid as error:
            raise rejected("unreadable", f"the file is not CSV: {str(error)[:200]}", "Mend the file") from None
        except OSError as error:
            if error.errno is not None:
                raise  # the disk's, not the file's
            problem = f"the gzip stream has something behind its end: {str(error)[:200]}"
            raise rejected("not_gzip", problem, "Compress the file again") from None
    if misfits:
        raise _misfit(*misfits[0], len(header), found)
    if len(table) != len(found.lines):
        raise rejected("unreadable", "its rows cannot be told apart", "Quote cells that hold quotes or line ends")
    return table


def _misfit(number: int, cells: int, columns: int, found: framing.Framing) -> RequestRejectedError:
    row = number - 1 - found.header_line  # numbers count the header and blank lines before it
    line = int(found.lines[min(row, len(found.lines) - 1)])
    if row >= len(found.lines) - 1 and cells < columns:
        problem = f"the last row has {cells} of {columns} cells"
        return rejected(TRUNCATED, problem, "Upload the whole file again", line=line)
    problem = f"line {line} has {cells} cells, the header has {columns}"
    return rejected("ragged_row", problem, "Give every row one cell per column, and quote cells with commas", line=line)
