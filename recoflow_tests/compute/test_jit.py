"""Where compiled code is kept, and what its first use imports."""

import subprocess
import sys
import tempfile

KERNEL = """
import sys
import numpy as np
from recoflow.compute.jit import numba

@numba.njit
def product(a, b):
    return a @ b

square = np.arange(4.0).reshape(2, 2)
assert (product(square, square) == square @ square).all()
assert "scipy.linalg" not in sys.modules
import scipy.linalg
assert np.allclose(scipy.linalg.inv(square) @ square, np.eye(2))
"""


def test_kernels_do_linear_algebra_without_the_import_of_all_that_scipy_has_of_it():
    subprocess.run([sys.executable, "-c", KERNEL], check=True, timeout=120)


def test_a_home_and_a_package_that_cannot_be_written_still_leave_a_place_for_compiled_code(tmp_path, monkeypatch):
    import numba

    from recoflow.compute import jit

    def refuse(*_args, **_settings):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba, "njit", refuse)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert jit.ensure_cache_folder()
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert str(folder) == numba.config.CACHE_DIR
    folder.chmod(0o777)
    assert not jit.ensure_cache_folder()
