"""Modules that another package imports and we never use: they are imported when something of them is asked for.

What belongs here: how an import is put off. What does not: which ones, and why (see `expectations`). The standard
library's `importlib.util.LazyLoader` cannot do it: in Python 3.11 the import statement itself loads such a module.
"""

from __future__ import annotations

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

    Everybody who imports them afterwards gets the modules themselves.
    """
    stands = [_Later(name) for name in names if name not in sys.modules]
    sys.modules.update({stand.__name__: stand for stand in stands})
    try:
        yield
    finally:
        for stand in stands:
            _remove(stand)


def _remove(stand: ModuleType) -> None:
    if sys.modules.get(stand.__name__) is stand:
        del sys.modules[stand.__name__]
