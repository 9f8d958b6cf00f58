"""How a heavy package is imported in less time: without modules that nobody uses, and without looking for garbage.

What belongs here: how. What does not: which packages and modules, and why (see `gx_runner`).
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class _Later(ModuleType):
    """Stands for the module of its name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove(self)
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def later(*names: str) -> Iterator[None]:
    """What is imported meanwhile gets a stand-in for each of these modules that is not loaded yet.

    A stand-in imports its module when something of it is asked for; who imports the module afterwards gets itself. The
    standard library's `importlib.util.LazyLoader` cannot do it: in Python 3.11 an import statement loads its modules.
    """
    stands = [_Later(name) for name in names if name not in sys.modules]
    sys.modules.update({stand.__name__: stand for stand in stands})
    try:
        yield
    finally:
        for stand in stands:
            _remove(stand)


@contextmanager
def uncollected() -> Iterator[None]:
    """The garbage collector rests: modules make many objects that stay, and it would look at all of them again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _remove(stand: ModuleType) -> None:
    if sys.modules.get(stand.__name__) is stand:
        del sys.modules[stand.__name__]
