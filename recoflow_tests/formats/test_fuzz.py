"""Any bytes are read to events and rejects that add up, or the file is refused: nothing else is raised."""

from __future__ import annotations

import contextlib
import os
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow.errors import SourceError
from recoflow.formats import files
from recoflow.formats.read_limits import LIMITS, ReadLimits
from recoflow.settings.environment import Environment

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
SFTP = {"username": "lorem", "private_key": "key", "known_hosts": "hosts"}
ENVIRONMENT = Environment.model_validate({"name": "lorem", "sftp": SFTP, "events": {"item_types": ["article"]}})
NAMES = ("lorem_events.csv", "lorem_items.csv", "lorem.jsonl", "lorem_items.json", "lorem_purchases.csv")
WHOLE = (
    b"event_type,user_id,page_type,timestamp\n",
    b"item_id,item_type,title,availability\n",
    b"page_visit,u1,home,1777636800\n",
    b'page_visit,"u,1",home,"1777636800"\n',
    b"p1,article,T,no\n",
    b'{"event_type":"page_visit","user_id":"u1","page_type":"home","timestamp":1777636800}\n',
    b'{"item_id":"p1","title":"T","availability":"yes"}\n',
    b'{"event":"item","id":"e","item":"p","timestamp":1777636800000,"fields":[{"name":"a","value":[1]}]}\n',
    b'{"id":"r","user":"u","timestamp":"1777636800000","items":[{"id":"a"},{"id":"b","relevancy":1}]}\n',
    b'{"events": [{"a": 1}]}',
)
MARKS = (b'"', b"\n", b"\r\n", b",", b"{", b"}", b"[", b"]", b":", b"\\", b"\0", b"\xff", b"\xef\xbb\xbf", b"\\u00e9")
PIECES = st.lists(st.one_of(st.sampled_from(WHOLE), st.sampled_from(MARKS), st.binary(max_size=6)), max_size=12)


def check(name: str, data: bytes, exact_bytes: int, chunk_bytes: int) -> None:
    """Read the bytes as a file; the size of chunks is small, so that records are cut in all places."""
    limits = ReadLimits(exact_bytes=exact_bytes, chunk_bytes=chunk_bytes, event_bytes=400)
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        batches = []
        with contextlib.suppress(SourceError):
            batches = list(files.read_events(path, ENVIRONMENT, NOW, limits=limits))
        for batch in batches:
            heads = int((batch.events["part"] <= 1).sum())
            assert batch.read == heads + batch.updates.height + batch.rejects.height
            assert batch.rejects["message"].str.len_chars().max() in range(1, 1000) or batch.rejects.is_empty()


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    pieces=PIECES,
    exact_bytes=st.sampled_from([0, LIMITS.exact_bytes]),
    chunk_bytes=st.sampled_from([7, 150, LIMITS.chunk_bytes]),
)
def test_any_bytes_become_events_and_rejects_that_add_up(
    name: str, pieces: list[bytes], exact_bytes: int, chunk_bytes: int
) -> None:
    check(name, b"".join(pieces), exact_bytes, chunk_bytes)


def mutated(dice: random.Random) -> bytes:
    """A good file with a few bytes changed, doubled or lost."""
    data = bytearray(b"".join(dice.choices(WHOLE, k=dice.randint(1, 30))))
    for _ in range(dice.randint(0, 6)):
        at = dice.randrange(len(data) + 1)
        change = dice.choice([dice.choice(MARKS), dice.randbytes(3), b"", bytes(data[max(0, at - 50) : at]) * 3])
        data[at : at + dice.randint(0, 3)] = change
    return bytes(data)


@pytest.mark.matrix
def test_files_with_damage_become_events_and_rejects_that_add_up_for_as_long_as_is_wished() -> None:
    end = time.monotonic() + float(os.environ.get("RECOFLOW_FUZZ_SECONDS", "60"))
    dice = random.Random(time.time_ns())  # pytest shows the arguments of `check` when it fails
    while time.monotonic() < end:
        name, data = dice.choice(NAMES), mutated(dice)
        exact_bytes, chunk_bytes = dice.choice([0, LIMITS.exact_bytes]), dice.choice([7, 150, LIMITS.chunk_bytes])
        check(name, data, exact_bytes, chunk_bytes)
