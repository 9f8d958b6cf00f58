"""What holds for all tests: hypothesis never fails for a slow machine and finds the same examples everywhere in CI, and
every test that was collected runs.
"""

import os
from collections import Counter

import hypothesis
import pytest

hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests that share a node id: xdist would run the first of them and forget the others."""
    twice = [name for name, times in Counter(item.nodeid for item in items).items() if times > 1]
    if twice:
        raise pytest.UsageError(f"{len(twice)} node ids are those of several tests, e.g. {twice[0]}")
