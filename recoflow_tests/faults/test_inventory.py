"""Each fault of the inventory is injected by a test, and each marker names a fault of the inventory."""

import ast
from collections import Counter
from pathlib import Path

from recoflow_tests.faults.inventory import FAULTS

TESTS = Path(__file__).parents[1]


def marked() -> Counter[str]:
    """How many tests carry each id, read from the decorators in the source text."""
    ids: Counter[str] = Counter()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                ids.update(ast.literal_eval(argument) for argument in node.args)
    return ids


def test_every_fault_has_a_test() -> None:
    assert sorted(FAULTS.keys() - marked().keys()) == []


def test_every_marker_names_a_known_fault() -> None:
    assert sorted(marked().keys() - FAULTS.keys()) == []
