"""Google Pub/Sub by pull: messages into the spool, acknowledged after the fsync. Needs the extra `pubsub`.

What belongs here: the connection and its failures. What does not: what a message means (`pubsub`).

Each pull is one batch of the spool with one fsync and one acknowledgement. A message whose acknowledgement is lost
comes again, with the same content and the same time of publication: the ingest knows it. PUBSUB_EMULATOR_HOST is
followed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from recoflow.errors import ConfigurationError, StorageError
from recoflow.gateway import pubsub
from recoflow.gateway.bodies import Accepted
from recoflow.settings.sections import GatewaySettings
from recoflow.storage import spool
from recoflow.storage.spool import SpoolWriter

MAX_MESSAGES: Final = 1000  # the most that one pull may ask for
PULL_SECONDS: Final = 5.0  # how long a pull waits for a message; also how long a stop may take
RETRY_SECONDS: Final = 2.0

_log = logging.getLogger("recoflow.pubsub")


class Subscriber:
    """One subscription's way into one environment's spool.

    Args:
        subscription: `projects/PROJECT/subscriptions/NAME`.
        folder: the environment's spool.
        limits: when a segment is sealed.
        clock: time in UTC.

    Raises:
        ConfigurationError: the extra is not installed, or there are no credentials.
    """

    def __init__(self, subscription: str, folder: Path, limits: GatewaySettings, clock: Callable[[], datetime]) -> None:
        self._subscription = subscription
        self._limits = limits
        self._clock = clock
        self._writer = SpoolWriter(folder, "events", limits.seal_bytes)
        self._client = _client()
        spool.recover(folder)

    def run(self, is_stopping: Callable[[], bool], wait: Callable[[float], object]) -> int:
        """Take messages until told to stop; gives the number of events that were written.

        Args:
            is_stopping: asked between two pulls.
            wait: called with seconds after a failure that may pass.

        Raises:
            ConfigurationError: the subscription does not exist or may not be read.
        """
        events = 0
        with self._client:
            try:
                while not is_stopping():
                    try:
                        events += self.pull()
                    except (StorageError, ConnectionError) as error:
                        _log.warning("%s; trying again", error)
                        wait(RETRY_SECONDS)
                    self._seal_if_older()
            finally:
                self._writer.seal()
        return events

    def pull(self) -> int:
        """Take what waits, at most `MAX_MESSAGES`; gives the number of events.

        Raises:
            ConfigurationError: the subscription does not exist or may not be read.
            ConnectionError: Pub/Sub cannot be reached now.
            StorageError: the disk refuses; nothing was acknowledged.
        """
        request = {"subscription": self._subscription, "max_messages": MAX_MESSAGES}
        response = self._call(self._client.pull, request, PULL_SECONDS)
        if response is None or not response.received_messages:
            return 0
        batches = [self._taken(each.message) for each in response.received_messages]
        lines = b"".join(batch.lines for batch in batches)
        if lines:
            self._writer.append([lines], self._clock())
        ids = [each.ack_id for each in response.received_messages]
        self._call(self._client.acknowledge, {"subscription": self._subscription, "ack_ids": ids}, PULL_SECONDS)
        return sum(batch.events for batch in batches)

    def _taken(self, message: Any) -> Accepted:
        published = message.publish_time
        moment = published.astimezone(UTC) if published else self._clock()
        return pubsub.taken(message.data, moment)

    def _seal_if_older(self) -> None:
        seconds = self._writer.age()
        if seconds is not None and seconds >= self._limits.seal_seconds:
            self._writer.seal()

    def _call(self, method: Callable[..., Any], request: dict[str, Any], seconds: float) -> Any:
        """Call Pub/Sub once; None when it had nothing to say in time."""
        from google.api_core import exceptions  # noqa: PLC0415 (an extra)

        try:
            return method(request=request, timeout=seconds, retry=None)
        except exceptions.DeadlineExceeded:
            return None
        except (exceptions.NotFound, exceptions.PermissionDenied, exceptions.Unauthenticated) as error:
            raise ConfigurationError(
                self._subscription, f"cannot be read: {error.message}", "Check its name and the account's rights"
            ) from error
        except exceptions.GoogleAPICallError as error:
            raise ConnectionError(f"Pub/Sub: {error.message}") from error


def _client() -> Any:
    try:
        from google.auth.exceptions import DefaultCredentialsError  # noqa: PLC0415 (an extra)
        from google.cloud import pubsub_v1  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError("google-cloud-pubsub", "is not installed", "pip install 'recoflow[pubsub]'") from None
    try:
        return pubsub_v1.SubscriberClient()
    except DefaultCredentialsError as error:
        cure = "Set GOOGLE_APPLICATION_CREDENTIALS, or PUBSUB_EMULATOR_HOST for the emulator"
        raise ConfigurationError("Google's credentials", f"cannot be used: {error}", cure) from None
