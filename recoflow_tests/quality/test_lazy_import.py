"""Imports of heavy packages."""

import gc
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from recoflow.quality.lazy_import import later, uncollected

CHECKS = """
import sys
from recoflow.quality.gx_runner import Check, Expectation, run_checks

tables = {"numbers": "SELECT range % 4 AS number FROM range(100)"}

def passes(kind, **arguments):
    check = Check("like", "numbers", "Numbers are alike.", (Expectation(kind, {"column": "number", **arguments}),))
    return [finding.passed for finding in run_checks(tables, [check], {})] == [True]

assert passes("ExpectColumnValuesToNotBeNull")
assert not {"altair", "scipy.stats"} & set(sys.modules)
even = {"values": [0, 1, 2, 3], "weights": [0.25, 0.25, 0.25, 0.25]}
assert passes("ExpectColumnKLDivergenceToBeLessThan", partition_object=even, threshold=0.1)
assert "scipy.stats" in sys.modules
"""


@pytest.fixture
def heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module that nobody has imported yet."""
    (tmp_path / "heavy_for_a_test.py").write_text("WEIGHT = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "heavy_for_a_test", raising=False)
    return "heavy_for_a_test"


def test_a_module_is_loaded_when_something_of_it_is_asked_for(heavy: str) -> None:
    with later(heavy):
        stand = importlib.import_module(heavy)
    assert heavy not in sys.modules
    assert stand.WEIGHT == 7
    assert sys.modules[heavy].WEIGHT == 7


def test_who_needs_it_meanwhile_gets_it(heavy: str) -> None:
    with later(heavy):
        assert importlib.import_module(heavy).WEIGHT == 7
    assert sys.modules[heavy].__file__


def test_what_a_module_lacks_is_told_as_ever(heavy: str) -> None:
    with later(heavy):
        stand = importlib.import_module(heavy)
    with pytest.raises(AttributeError, match="height"):
        _ = stand.height


def test_what_is_loaded_stays(heavy: str) -> None:
    loaded = importlib.import_module(heavy)
    with later(heavy):
        assert importlib.import_module(heavy) is loaded
    assert sys.modules[heavy] is loaded


def test_the_collector_rests_and_works_on() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_rested_before_rests_on() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_checks_load_no_module_for_distributions_until_a_check_asks_for_one() -> None:
    subprocess.run([sys.executable, "-c", CHECKS], check=True)
