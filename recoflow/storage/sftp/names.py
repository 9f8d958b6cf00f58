"""Remote file names: which are data, which are not, and how a hostile one is told and answered.

What belongs here: rules about names, as bytes. What does not: what a campaign's name means
(`campaigns.requests.filename`) and when a file is complete (`upload_completeness`).
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Final
from urllib.parse import quote

LONGEST: Final = 200  # bytes; claims and side files add to a name, and 255 is where file systems end
FOLDERS: Final = ("requests", "periodic", "one_time")
ERRORS: Final = ".errors.csv"
MANIFEST: Final = ".manifest.json"
UNUSABLE: Final = "unusable-"  # how side files of names begin that cannot be repeated
COMPLETE: Final = (b".done", b".ok", b".ready")
DIGEST: Final = b".sha256"
MARKERS: Final = (*COMPLETE, DIGEST)
TEMPORARY: Final = (
    b".filepart",
    b".part",
    b".partial",
    b".tmp",
    b".temp",
    b".crdownload",
    b".uploading",
    b".writing",
    b".swp",
    b".lock",
)


def is_temporary(name: bytes) -> bool:
    """Whether a client uses such a name while it uploads (leading `.` and `~`, `.filepart` and the like)."""
    return name[:1] in {b".", b"~"} or name.lower().endswith(TEMPORARY)


def is_marker(name: bytes) -> bool:
    """Whether the name says something about another file (`x.csv.done`, `x.csv.sha256`)."""
    return name.lower().endswith(MARKERS)


def is_data(name: bytes) -> bool:
    """Whether the name is that of a file to process."""
    return not is_temporary(name) and not is_marker(name)


def fault(name: bytes) -> str | None:
    """Why a name cannot be used in a response, None when it can."""
    if len(name) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8"
    if not text or text in {".", ".."} or "/" in text:
        return "is not a file name"
    # Cc control, Cf format (bidi overrides, zero width), Zl and Zp line and paragraph separators.
    if any(unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"} for character in text):
        return "has control or invisible characters"
    return None


def escaped(name: bytes) -> str:
    """The name in printable ASCII, for logs and errors."""
    return name.decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii")


def safe(name: bytes) -> str:
    """A name that can be used everywhere, stable for each name and different for different names."""
    return f"{quote(name[:60], safe='')[:120].lstrip('.~')}-{hashlib.sha256(name).hexdigest()[:12]}"


def side(name: bytes, ending: str, folder: str = FOLDERS[0]) -> str:
    """The name of a side file in responses/: usable whatever `name` is, and different for each name and folder.

    It is the whole name and the ending. In front stands the folder and a dot, except for requests, whose own names only
    rarely begin like that; then theirs have it, too.

    Args:
        name: of the file that is answered.
        ending: ERRORS or MANIFEST.
        folder: one of FOLDERS, where the file was uploaded.
    """
    is_plain = fault(name) is None and not name.startswith((b".", UNUSABLE.encode())) and b"\\" not in name
    shown = name.decode("utf-8") if is_plain else UNUSABLE + safe(name)
    is_bare = folder == FOLDERS[0] and not shown.startswith(tuple(f"{each}." for each in FOLDERS))
    return f"{shown}{ending}" if is_bare else f"{folder}.{shown}{ending}"


def is_side(name: str) -> bool:
    """Whether a file that recoflow publishes beside responses may have this name; case is ignored, as on Windows."""
    return name.lower().endswith((ERRORS, MANIFEST))
