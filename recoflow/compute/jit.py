"""How loops are compiled: with numba, once per machine, without the interpreter lock.

What belongs here: the decorators of all kernels. What does not: kernels. Import this inside the function that needs a
kernel, or in a module that is imported so: numba is heavy.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import numba
import scipy


def ensure_cache_folder() -> bool:
    """Give numba a private folder for compiled code where it finds none that it can write.

    It looks beside the kernel's file and in the user's cache. It unpickles what it finds, so a folder in a place that
    all accounts share is only used if no other account could have made or changed it.
    """
    try:
        numba.njit(ensure_cache_folder, cache=True)
    except RuntimeError:
        folder = Path(tempfile.gettempdir()) / f"recoflow-numba-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) != 0o700 or not stat.S_ISDIR(status.st_mode):
            return False
        numba.config.CACHE_DIR = str(folder)
    return True


def load_blas_alone() -> None:
    """Give numba the one module of scipy.linalg that it looks for at the first kernel, without all others of it.

    A module that is there already is found by its full name, so its package, 0.15 s of imports, stays out until
    somebody asks for it. Threads of the BLAS that it brings would spin for 0.1 s before they sleep: here they sleep at
    once, because products that matter are spread by `thread_pool.workers`.
    """
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # 2^4 cycles; OpenBLAS reads it when it is loaded
    name = "scipy.linalg.cython_blas"
    spec = PathFinder.find_spec(name, [f"{scipy.__path__[0]}/linalg"])
    if name not in sys.modules and spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[name] = module


_IS_CACHED = ensure_cache_folder()
load_blas_alone()


def jit(kernel: Callable[..., Any]) -> Any:
    """Compile at the first call, once per machine."""
    return numba.njit(cache=_IS_CACHED, nogil=True)(kernel)


def jit_no_refcount(kernel: Callable[..., Any]) -> Any:
    """Compile a kernel that makes no arrays, so that nothing has to count who holds those it is given.

    Counting is what a short function with several returns otherwise does most of its time.
    """
    return numba.njit(cache=_IS_CACHED, nogil=True, _nrt=False)(kernel)


def jit_inline(kernel: Callable[..., Any]) -> Any:
    """The same, compiled into each caller: for short kernels, where handing over arrays takes longer than the work."""
    return numba.njit(cache=_IS_CACHED, nogil=True, forceinline=True, _nrt=False)(kernel)


def jit_fastmath(kernel: Callable[..., Any]) -> Any:
    """Compile for numbers that are finite, with sums in whatever order the processor's vectors like."""
    return numba.njit(cache=_IS_CACHED, nogil=True, fastmath={"nnan", "nsz", "reassoc", "contract"})(kernel)
