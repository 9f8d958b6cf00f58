"""A request to forget people that came as a file: `…forget….csv` with the columns user_id and device_id.

What belongs here: which file is such a request and whom it names. What does not: forgetting them.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Final

from recoflow.erasure.compressed_files import DAMAGE, unpacked
from recoflow.errors import SourceError
from recoflow.formats.fields import BLANK, is_nobody

COLUMNS: Final = ("user_id", "device_id")
_NAME: Final = re.compile(r"(?:^|[_.-])forget[_.-](?:.*[_.-])?csv(?:\.gz|\.zst)?$", re.IGNORECASE)
_CURE: Final = "Send the columns user_id and device_id, or one of them, and nothing else"


def is_request(name: str) -> bool:
    """Whether the name has `forget` as a word of its own, as in `lorem_forget_2026-03-01.csv`."""
    return _NAME.search(name) is not None


def read_request_file(path: Path, name: str) -> tuple[frozenset[str], frozenset[str]]:
    """The user ids and device ids of a request; rows may name one or both.

    Raises:
        SourceError: it is not such a file. Nothing is guessed, because nothing of it can be undone.
    """
    content = path.read_bytes()
    try:
        rows = csv.reader(io.StringIO(unpacked(content).decode("utf-8-sig"), newline=""), strict=True)
        header, *records = [row for row in rows if row]
    except (UnicodeDecodeError, ValueError, csv.Error, *DAMAGE) as error:
        raise SourceError(name, f"is not a CSV file of people to forget ({error})", _CURE) from None
    if not set(header) <= set(COLUMNS) or len(set(header)) < len(header):
        # They are not told: where a file has no header they are the ids of the first person.
        raise SourceError(name, "has other columns in its first row", _CURE)
    ids = [cell for row in records for cell in row if cell.strip(BLANK)]
    if any(len(row) != len(header) for row in records) or not ids:
        raise SourceError(name, "has a row of another length than its header, or names nobody", _CURE)
    if nobody := next(filter(is_nobody, ids), None):
        raise SourceError(name, f"names '{nobody}', which stands for nobody", f"Leave such cells empty. {_CURE}")
    named = {column: frozenset(row[place] for row in records) & {*ids} for place, column in enumerate(header)}
    return named.get("user_id", frozenset()), named.get("device_id", frozenset())
