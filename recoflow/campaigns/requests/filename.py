"""Names of request files: the campaign's date, the names of the answers, and keys that are safe for a partition.

What belongs here: everything that is learnt from a name alone. What does not: content, folders, the disk.

Source: Froomle's batch page (suggested name `{environment}_{campaign}_YYYY-MM-DDTHH:mm:ssZ.csv`; the name must contain
the campaign's date; the response has the same name) and docs/spec/campaigns.md (clients that cannot write colons).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime

from recoflow.campaigns.requests.rejection import rejected
from recoflow.storage.sftp import names

MAX_BYTES = 200
KEY_STEM = 40

_SUFFIX = re.compile(r"\.csv(?:\.gz)?$", re.IGNORECASE)
# Digits with more digits around them are no date: only runs of 8 (a day), 12, 14 and 17 (milliseconds) can be one.
_DATE = re.compile(
    r"(?<!\d)((?:19|20)\d\d)(?P<dash>[-_.]?)(0[1-9]|1[0-2])(?P=dash)(0[1-9]|[12]\d|3[01])"  # 2020-02-02, 20200202 …
    r"(?:(?:[T _.+-]|%20)?(\d\d)(?::|%3A|[-_.])?(\d\d)(?:(?::|%3A|[-_.])?(\d\d)(?:\d{3}|[.,]\d+)?)?"  # T20:22:02Z …
    r"Z?(?!-?\d|(?P=dash)\d))?(?!\d)",
    re.IGNORECASE,
)
_UNSAFE_IN_KEY = re.compile(r"[^A-Za-z0-9_-]+")
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class CampaignName:
    """What the name of a request file says.

    Args:
        name: the file's name as it was uploaded; the response carries it byte for byte.
        stem: the name without its suffix.
        campaign: the stem without the environment before it and the date behind it.
        date: the campaign's date, UTC; midnight when the name has no time.
        suffix: `.csv` or `.csv.gz`, spelt as in the name.
    """

    name: str
    stem: str
    campaign: str
    date: datetime
    suffix: str

    @property
    def is_compressed(self) -> bool:
        """Whether request and response are gzip files."""
        return is_compressed(self.name)


def parse_filename(name: str, environment: str) -> CampaignName:
    """Read the name of a request file of `environment` (its name).

    Raises:
        RequestRejectedError: `name_unsafe`, `name_of_side_file`, `name_not_csv` or `name_without_date`.
    """
    problem = _danger(name)
    if problem:
        raise rejected("name_unsafe", f"the file's name {problem}", "Use letters, digits, '_', '-' and '.'")
    if names.is_side(name):
        problem = f"'{name}' is named like a file that recoflow publishes beside its responses"
        raise rejected("name_of_side_file", problem, f"Let the name end otherwise than in {names.ERRORS}")
    suffix = _SUFFIX.search(name)
    if suffix is None:
        raise rejected("name_not_csv", f"'{name}' does not end in .csv or .csv.gz", "Upload CSV under such a name")
    stem = name[: suffix.start()]
    dates = [(match.start(), date) for match in _DATE.finditer(stem) if (date := _date(match)) is not None]
    if not dates:
        raise rejected(
            "name_without_date",
            f"'{name}' does not contain the campaign's date",
            f"Name the file like {environment}_weekly_mail_2020-02-02T20:22:02Z.csv",
        )
    start, date = dates[-1]
    campaign = stem[:start].removeprefix(f"{environment}_").strip("_-. ")
    return CampaignName(name, stem, campaign, date, suffix.group())


def campaign_key(environment: str, name: str, sha256: str, revision: int) -> str:
    """A partition key for one revision of a request file: readable, unique, at most 63 of `[A-Za-z0-9_.-]`.

    It is made for every name, the unusable ones too, because those are answered as well.
    """
    readable = _UNSAFE_IN_KEY.sub("-", _SUFFIX.sub("", name))[-KEY_STEM:].strip("-") or "request"
    identity = "\0".join((environment, name, sha256)).encode("utf-8", "surrogatepass")
    return f"{readable}.{hashlib.sha256(identity).hexdigest()[:12]}.r{revision}"


def errors_name(name: str) -> str:
    """Name of the side file that lists the rows that were refused, safe also where `name` is not."""
    return names.side(_bytes(name), names.ERRORS)


def manifest_name(name: str) -> str:
    """Name of the side file that carries the counts, safe also where `name` is not."""
    return names.side(_bytes(name), names.MANIFEST)


def is_compressed(name: str) -> bool:
    """Whether a file of this name is read, and answered, as gzip."""
    return name.lower().endswith(".gz")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _danger(name: str) -> str | None:
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:  # surrogates stand for bytes that are not UTF-8
        return "is not UTF-8"
    if size > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes"
    if not name or name.startswith("."):
        return "is empty or hidden"
    if any(character in "/\\" or unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        return "contains a path separator or a control character"
    if not _BIDI.isdisjoint(name):
        return "contains characters that change the direction of writing"
    return None


def _date(match: re.Match[str]) -> datetime | None:
    year, _, month, day, *time = match.groups("0")
    try:
        date = datetime(int(year), int(month), int(day), tzinfo=UTC)
    except ValueError:  # digits that only look like a date
        return None
    try:
        return date.replace(hour=int(time[0]), minute=int(time[1]), second=int(time[2]))
    except ValueError:  # the text behind the date is not a time
        return date
