"""What an SFTP server replies: attributes, entries of listings, and failures."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Final

import paramiko

from recoflow.errors import MailboxError

# Listing attributes of the embedded server: the uploader's CLOSE succeeded, and
CLOSED: Final = b"closed@recoflow"  # its session has ended, or has left the file alone since
IN_USE: Final = b"in-use@recoflow"  # its session may still check, date or rename the file
_FLAG_SIZE, _FLAG_OWNER, _FLAG_MODE, _FLAG_TIMES, _FLAG_EXTENDED = 1, 2, 4, 8, 0x80000000


class LinkLostError(MailboxError):
    """The connection broke or fell silent: what the last request did is unknown."""


class SftpStatusError(MailboxError):
    """The server answered a request with an error status."""


class MissingError(SftpStatusError):
    """The server answered: no such file."""


@dataclass(frozen=True)
class Attributes:
    """What the server tells of a file; `mtime` in whole seconds, as SFTP version 3 has no finer."""

    size: int
    mode: int
    mtime: int
    is_closed: bool = False
    is_in_use: bool = False

    @property
    def is_regular(self) -> bool:
        """Neither a folder nor a link nor a device."""
        return stat.S_ISREG(self.mode)


@dataclass(frozen=True)
class ListingEntry:
    """A name of a listing, byte for byte."""

    name: bytes
    attributes: Attributes


def read_attributes(body: paramiko.Message) -> Attributes:
    """The attributes that a message goes on with."""
    flags = body.get_int()
    size = body.get_int64() if flags & _FLAG_SIZE else 0
    if flags & _FLAG_OWNER:
        body.get_int64()
    mode = body.get_int() if flags & _FLAG_MODE else 0
    mtime = (body.get_int(), body.get_int())[1] if flags & _FLAG_TIMES else 0
    extended = {body.get_binary(): body.get_binary() for _ in range(body.get_int())} if flags & _FLAG_EXTENDED else {}
    return Attributes(size, mode, mtime, is_closed=CLOSED in extended, is_in_use=IN_USE in extended)
