"""Which ids were erased, so that a restored backup can be cleared of them again.

An id is kept as a keyed hash (HMAC-SHA-256). The key and the hashes are outside of backups. A hash leads back to no id,
but a restore can hash every id of the restored tables and compare.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from recoflow.storage import atomic_files
from recoflow.storage.paths import Paths

USER, DEVICE = KINDS = ("user", "device")
_KEY_BYTES: Final = 32


def record(layout: Paths, environment: str, user_ids: Iterable[str], device_ids: Iterable[str]) -> None:
    """Note on disk that these ids were erased in an environment."""
    key = _key(layout, is_new=True)
    known = _known(layout, environment)
    hashes = {_hash(key, kind, each) for kind, ids in zip(KINDS, (user_ids, device_ids), strict=True) for each in ids}
    if not hashes <= known:
        atomic_files.write_atomic(_path(layout, environment), "\n".join(sorted(known | hashes)).encode() + b"\n")


def matches(layout: Paths, environment: str, kind: str, ids: Iterable[str]) -> frozenset[str]:
    """Those of `ids` that were erased; `kind` is one of `KINDS`."""
    known = _known(layout, environment)
    if not known:
        return frozenset()
    key = _key(layout)
    return frozenset(each for each in ids if _hash(key, kind, each) in known)


def _path(layout: Paths, environment: str) -> Path:
    return layout.erasures / f"{environment}.txt"


def _key(layout: Paths, *, is_new: bool = False) -> bytes:
    path = layout.erasures / "key"
    if is_new and not path.exists():
        layout.erasures.mkdir(parents=True, exist_ok=True)
        temporary = layout.erasures / f".key.{os.getpid()}.tmp"
        temporary.write_bytes(secrets.token_bytes(_KEY_BYTES))
        temporary.chmod(0o600)
        atomic_files.publish(temporary, path)
    return path.read_bytes()


def _known(layout: Paths, environment: str) -> set[str]:
    path = _path(layout, environment)
    return set(path.read_text(encoding="ascii").split()) if path.exists() else set()


def _hash(key: bytes, kind: str, identity: str) -> str:
    return hmac.new(key, f"{kind}:{identity}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
