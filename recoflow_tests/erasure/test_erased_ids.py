"""What is kept of an erasure leads to the person only for who has the id already."""

from __future__ import annotations

from pathlib import Path

import pytest

from recoflow.erasure import erased_ids
from recoflow.erasure.erase import erase
from recoflow.storage.paths import Paths
from recoflow_tests.erasure.conftest import ANN, OTHERS, PHONE, Installed

pytestmark = pytest.mark.fault("M17")


def test_ids_that_come_back_with_a_backup_are_recognized(made: Installed) -> None:
    erase(made.layout, made.environment, made.lakes, user_ids=[ANN])
    assert erased_ids.matches(made.layout, "lorem", erased_ids.USER, [ANN, PHONE, OTHERS[0]]) == {ANN}
    assert erased_ids.matches(made.layout, "lorem", erased_ids.DEVICE, [ANN, PHONE]) == {PHONE}
    assert erased_ids.matches(made.layout, "ipsum", erased_ids.USER, [ANN]) == frozenset()
    kept = b"".join(path.read_bytes() for path in made.layout.erasures.iterdir())
    assert ANN.encode() not in kept
    assert (made.layout.erasures / "key").stat().st_mode & 0o077 == 0


def test_two_erasures_are_both_kept_once(tmp_path: Path) -> None:
    layout = Paths(tmp_path)
    for ids in (["ann"], ["bob"], ["ann"]):
        erased_ids.record(layout, "lorem", ids, [])
    assert erased_ids.matches(layout, "lorem", "user", ["ann", "bob", "cid"]) == {"ann", "bob"}
    assert len((layout.erasures / "lorem.txt").read_text().splitlines()) == 2
