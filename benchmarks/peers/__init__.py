"""Peers from PyPI that recoflow does not need: each is installed into an environment of its own, never the project's.

    python -m benchmarks.peers [pyspark]

What belongs here: making an interpreter that has a peer, or saying why there is none. What does not: measuring them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.world_m import CACHE

REQUIREMENTS = Path(__file__).parent
NEEDS_JAVA = frozenset({"pyspark"})


def interpreter(peer: str) -> str | None:
    """The Python of the environment with `peer`, made at the first call; None, and a line why, where it cannot be."""
    if peer in NEEDS_JAVA and shutil.which("java") is None:
        print(f"{peer}: left out, there is no Java", file=sys.stderr)
        return None
    folder = CACHE / "peers" / peer
    python = folder / "bin" / "python"
    if (folder / "installed").exists():
        return str(python)
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    # Wheels only, so that nothing is compiled; pyspark is published as source that needs no compiler.
    wheels = ["--only-binary", ":all:", *(["--no-binary", "pyspark"] if peer == "pyspark" else [])]
    command = [str(python), "-m", "pip", "install", "--quiet", *wheels, "-r"]
    done = subprocess.run([*command, str(REQUIREMENTS / f"{peer}.txt")], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"{peer}: left out, pip says {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    (folder / "installed").touch()
    return str(python)
