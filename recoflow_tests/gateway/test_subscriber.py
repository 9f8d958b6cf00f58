"""Pub/Sub by pull, over real gRPC against an in-process server of the public API."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recoflow.errors import ConfigurationError, StorageError
from recoflow.gateway import subscriber
from recoflow.gateway.subscriber import Subscriber
from recoflow.settings.sections import GatewaySettings
from recoflow.storage import spool
from recoflow.storage.paths import Paths
from recoflow_tests.gateway.client import ingest_spool, view, write_environment

grpc = pytest.importorskip("grpc")
pubsub_v1 = pytest.importorskip("google.cloud.pubsub_v1")

NAME = "projects/lorem/subscriptions/events"
PUBLISHED = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


class Broker:
    """Pub/Sub's Subscriber service: what is pulled and not acknowledged is delivered again."""

    def __init__(self) -> None:
        self.waiting: dict[str, bytes] = {}
        self.acknowledged: list[str] = []
        self.failures: list[grpc.StatusCode] = []  # of the next calls

    def publish(self, *datas: Any) -> None:
        for data in datas:
            text = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.waiting[f"ack-{len(self.waiting) + len(self.acknowledged)}"] = text

    def pull(self, request: Any, context: grpc.ServicerContext) -> Any:
        self._fail(context)
        if request.subscription != NAME:
            context.abort(grpc.StatusCode.NOT_FOUND, "Subscription does not exist")
        received = [
            pubsub_v1.types.ReceivedMessage(
                ack_id=ack_id,
                message=pubsub_v1.types.PubsubMessage(data=data, message_id=ack_id, publish_time=PUBLISHED),
            )
            for ack_id, data in list(self.waiting.items())[: request.max_messages]
        ]
        return pubsub_v1.types.PullResponse(received_messages=received)

    def acknowledge(self, request: Any, context: grpc.ServicerContext) -> Any:
        from google.protobuf import empty_pb2

        self._fail(context)
        for ack_id in request.ack_ids:
            del self.waiting[ack_id]
            self.acknowledged.append(ack_id)
        return empty_pb2.Empty()

    def _fail(self, context: grpc.ServicerContext) -> None:
        if self.failures and (code := self.failures.pop(0)) is not grpc.StatusCode.OK:
            context.abort(code, "told to fail")


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    from google.protobuf import empty_pb2

    made = Broker()
    types = pubsub_v1.types
    handlers = {
        "Pull": grpc.unary_unary_rpc_method_handler(
            made.pull, types.PullRequest.deserialize, types.PullResponse.serialize
        ),
        "Acknowledge": grpc.unary_unary_rpc_method_handler(
            made.acknowledge, types.AcknowledgeRequest.deserialize, empty_pb2.Empty.SerializeToString
        ),
    }
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("google.pubsub.v1.Subscriber", handlers)])
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()
    yield made
    server.stop(None).wait()


@pytest.fixture
def layout(tmp_path: Path) -> Paths:
    made = Paths(tmp_path)
    write_environment(made, "lorem")
    return made


def subscribe(layout: Paths, name: str = NAME, **limits: Any) -> Subscriber:
    return Subscriber(name, layout.spool("lorem"), GatewaySettings(**limits), lambda: datetime.now(UTC))


def run_until_empty(one: Subscriber, broker: Broker) -> int:
    return one.run(lambda: not broker.waiting, lambda _seconds: None)


def test_messages_come_into_the_lake_and_are_acknowledged(broker: Broker, layout: Paths) -> None:
    broker.publish(view(1), {"events": [view(2), view(3, timestamp=None)]}, [view(4)], b"")
    assert run_until_empty(subscribe(layout), broker) == 4
    assert len(broker.acknowledged) == 4
    assert ingest_spool(layout).accepted == 4


def test_bad_messages_are_acknowledged_and_quarantined(broker: Broker, layout: Paths) -> None:
    broker.publish(view(1, page_type=None), b"\xff no json", b'"text"', {"events": [3]}, view(2))
    assert run_until_empty(subscribe(layout), broker) == 5
    counts = ingest_spool(layout)
    assert (counts.accepted, counts.quarantined) == (1, 4)


def test_nothing_is_acknowledged_when_the_disk_refuses(broker: Broker, layout: Paths) -> None:
    one = subscribe(layout)
    layout.spool("lorem").parent.mkdir(exist_ok=True)
    layout.spool("lorem").write_text("a file where the folder should be")
    broker.publish(view(1))
    with pytest.raises(StorageError):
        one.pull()
    assert (list(broker.waiting), broker.acknowledged) == (["ack-0"], [])
    layout.spool("lorem").unlink()
    assert run_until_empty(one, broker) == 1
    assert ingest_spool(layout).accepted == 1


def test_a_message_whose_acknowledgement_was_lost_counts_once(broker: Broker, layout: Paths) -> None:
    broker.publish(view(1, timestamp=None, event_id=None))
    broker.failures = [grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE]
    assert run_until_empty(subscribe(layout), broker) == 1
    counts = ingest_spool(layout)
    assert (counts.accepted, counts.duplicates) == (1, 1)


def test_a_server_that_is_away_for_a_while_is_waited_for(broker: Broker, layout: Paths) -> None:
    broker.publish(view(1))
    broker.failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL]
    waits: list[float] = []
    assert subscribe(layout).run(lambda: not broker.waiting, waits.append) == 1
    assert waits == [subscriber.RETRY_SECONDS] * 2


def test_a_subscription_that_does_not_exist_is_an_error_that_names_it(broker: Broker, layout: Paths) -> None:
    with pytest.raises(ConfigurationError, match="subscriptions/nothing: cannot be read"):
        subscribe(layout, "projects/lorem/subscriptions/nothing").run(lambda: False, lambda _seconds: None)


def test_a_segment_is_sealed_by_its_age_while_messages_go_on(broker: Broker, layout: Paths) -> None:
    folder, start = layout.spool("lorem"), datetime(2026, 6, 1, tzinfo=UTC)
    moments = (start + timedelta(seconds=3 * tick) for tick in range(20))
    one = Subscriber(NAME, folder, GatewaySettings(seal_seconds=10), lambda: next(moments))
    broker.publish(view(1))
    one.run(lambda: bool(spool.sealed(folder)), lambda _seconds: None)
    assert ingest_spool(layout).accepted == 1


def test_the_command_takes_messages_until_it_is_told_to_stop(broker: Broker, layout: Paths) -> None:
    broker.publish(view(1), view(2))
    command = [sys.executable, "-m", "recoflow.cli", "pubsub", "--environment", "lorem", "--subscription", NAME]
    process = subprocess.Popen([*command, "--data", str(layout.root)], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while len(broker.acknowledged) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert (process.returncode, output.splitlines()[-1]) == (0, "2 events were taken")
    assert ingest_spool(layout).accepted == 2
