"""Installs peers and says which are there."""

from __future__ import annotations

import sys

from benchmarks.peers import REQUIREMENTS, interpreter

for peer in sys.argv[1:] or sorted(path.stem for path in REQUIREMENTS.glob("*.txt")):
    print(f"{peer:10} {interpreter(peer) or 'not installed'}")
