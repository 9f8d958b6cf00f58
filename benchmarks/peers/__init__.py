"""Peers from PyPI that recoflow does not need: each is installed into an environment of its own, never the project's.

    python -m benchmarks.peers [pyspark] [rectools] [lenskit]

What belongs here: making an interpreter that has a peer, or saying why there is none, and running a script with it.
What does not: the scripts.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

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


def measured(peer: str, module: str, *arguments: object) -> dict[str, Any] | None:
    """What a module says that the peer's environment runs, None where there is no such environment."""
    python = interpreter(peer)
    return None if python is None else told([python, "-m", module, *map(str, arguments)])


def told(command: list[str]) -> dict[str, Any]:
    """The JSON object in the last line of what a command says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
