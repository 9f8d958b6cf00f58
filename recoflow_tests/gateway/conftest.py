"""Gateways for the tests."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from recoflow.storage.paths import Paths
from recoflow_tests.gateway.client import Running, write_environment


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start a gateway for environment lorem, with the `gateway` section given as YAML; ended after the test."""
    with ExitStack() as stack:

        def start_one(gateway: str = "{}") -> Running:
            layout = Paths(tmp_path)
            write_environment(layout, "lorem", gateway)
            running = Running(layout)
            stack.callback(lambda: running.process.poll() is None and running.end(signal.SIGKILL))
            return running

        yield start_one


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway that all tests of a module share: lorem is open, ipsum and dolor have tokens."""
    layout = Paths(tmp_path_factory.mktemp("data"))
    write_environment(layout, "lorem", "{ seal_seconds: 0.1, max_body_bytes: 200000, max_events: 1000 }")
    write_environment(layout, "ipsum", "{ token_variables: [IPSUM_TOKEN] }")
    write_environment(layout, "dolor", "{ token_variables: [DOLOR_TOKEN] }")
    running = Running(layout)
    yield running
    assert running.end() == 0
