"""Who may read the data folder: the account that recoflow runs under, and who the environments' settings name.

New files are private by the umask, which processes inherit; those of an older installation are made so by `close`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import reduce
from operator import and_
from pathlib import Path
from typing import Final

from recoflow.errors import ConfigurationError
from recoflow.settings.environment import Environment
from recoflow.storage.paths import Paths

UMASK: Final = 0o077
FILE: Final = 0o600


def warehouse_mode(environments: Iterable[Environment]) -> int:
    """The mode of warehouse.duckdb: what every environment allows, since it holds the data of all."""
    return reduce(and_, (environment.sharing.warehouse for environment in environments))


def shared(layout: Paths, environments: Iterable[Environment]) -> dict[Path, int]:
    """Modes of what others may read or write, by the environments' settings."""
    known = tuple(environments)
    modes = {layout.inbox(each.name): each.sharing.inbox for each in known if each.sharing.inbox_mode is not None}
    return {**modes, layout.warehouse: warehouse_mode(known)}


def close(layout: Paths, modes: Mapping[Path, int]) -> None:
    """Take every right under the data folder from group and others, except `modes`.

    Links below the data folder are not followed.

    Raises:
        ConfigurationError: a file belongs to this account, and its rights cannot be changed.
    """
    wanted = {**_passable(layout.root, modes), **modes}
    try:
        for path in _paths(layout.root):
            _close(path, wanted)
    except OSError as error:
        cure = "Give this user the right to write there, or mount it writable"
        raise ConfigurationError(str(layout.root), f"cannot be made private: {error}", cure) from None


def _passable(root: Path, modes: Mapping[Path, int]) -> dict[Path, int]:
    """The folders between the root and what others may reach, which they may pass and not list."""
    folders: dict[Path, int] = {}
    for path, mode in modes.items():
        others = (0o010 if mode & 0o070 else 0) | (0o001 if mode & 0o007 else 0)
        for folder in path.parents:
            if folder.is_relative_to(root):
                folders[folder] = folders.get(folder, 0o700) | others
    return folders


def _paths(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        yield Path(folder)
        yield from (Path(folder, name) for name in names)


def _close(path: Path, wanted: Mapping[Path, int]) -> None:
    if path.is_symlink() and path not in wanted:
        return
    with suppress(FileNotFoundError):  # it was temporary
        found = path.stat()
        current = stat.S_IMODE(found.st_mode)
        mode = wanted.get(path, current & 0o700) | current & 0o7000  # a folder's setgid bit is the administrator's
        if mode != current and found.st_uid == os.geteuid():
            path.chmod(mode)
