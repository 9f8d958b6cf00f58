"""Most events at a glance: which ones are surely good, so that only the others go through the exact rules.

What belongs here: a sufficient condition, checked mostly in compiled code. What does not: refusing or explaining;
`formats.froomle` alone does that, and a test holds this module against it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from recoflow.formats import froomle, times
from recoflow.formats.fields import NO_IDENTITY
from recoflow.formats.rejects import EventError
from recoflow.settings.environment import Environment

_SECOND: Final = 1_000_000
_NOBODY: Final = frozenset({"", *NO_IDENTITY})
_WITH_ITEM: Final = frozenset(kind for kind, required in froomle.REQUIRED.items() if "item_id" in required)


class _Event(msgspec.Struct):
    """The types that need no second look; any other type is for the exact rules."""

    event_type: str
    event_id: str | None = None
    environment: str | None = None
    user_id: str | None = None
    device_id: str | None = None
    session_id: str | None = None
    channel: str | None = None
    page_type: str | None = None
    action_item: str | None = None
    action_item_type: str | None = None
    item_id: str | None = None
    item_type: str | None = None
    interaction_type: str | None = None
    request_id: str | None = None
    campaign_id: str | None = None
    list_name: str | None = None
    user_group: str | None = None
    version: str | None = None
    currency: str | None = None
    order_id: str | None = None
    subscription_type: str | None = None
    checkpoint: str | None = None
    referrer: str | None = None
    quantity: float | None = None
    price: float | None = None
    discount: float | None = None
    rank: int | None = None
    timestamp: int | str | None = None


def _getter(names: Sequence[str]) -> Callable[[_Event], tuple[Any, ...]]:
    """Reads the named fields at once; the first stands twice, because attrgetter gives a tuple for two and more."""
    return operator.attrgetter("event_type", "event_type", *names)


_REQUIRED: Final = {
    kind: _getter([name for name in required if name not in froomle.ITEM])
    for kind, required in froomle.REQUIRED.items()
}


class Screen:
    """The condition for one environment and one time of receipt."""

    def __init__(self, environment: Environment, received_at: datetime) -> None:
        self._channels = environment.channels | {None}
        self._page_types = environment.page_types | {None}
        self._names = {environment.name, None}
        self._has_default_type = environment.default_item_type is not None
        self._latest = times.latest(received_at)

    def doubtful(self, events: Sequence[Any]) -> list[int]:
        """Indices of the decoded events that the exact rules must see."""
        try:
            typed = msgspec.convert(events, list[_Event])
        except (msgspec.MsgspecError, OverflowError):
            return [index for index, event in enumerate(events) if not self._is_good_value(event)]
        return [index for index, event in enumerate(typed) if not self._is_good(event)]

    def _is_good_value(self, value: object) -> bool:
        try:
            return self._is_good(msgspec.convert(value, _Event))
        except (msgspec.MsgspecError, OverflowError):
            return False

    def _is_good(self, event: _Event) -> bool:
        return (
            event.event_type in _REQUIRED
            and event.channel in self._channels
            and event.page_type in self._page_types
            and event.environment in self._names
            and (event.rank is None or 0 <= event.rank <= froomle.MAX_RANK)
            and (_names_somebody(event.user_id) or _names_somebody(event.device_id))
            and self._has_item(event)
            and _has_required(event)
            and (event.timestamp is None or self._is_timely(event.timestamp))
        )

    def _has_item(self, event: _Event) -> bool:
        """Whether the item is told, where there must be one, and by one name only."""
        if (event.action_item and event.item_id) or (event.action_item_type and event.item_type):
            return False
        item, item_type = event.action_item or event.item_id, event.action_item_type or event.item_type
        is_told = bool(item and item.strip())
        is_typed = bool(item_type and item_type.strip()) if item_type else self._has_default_type
        return event.event_type not in _WITH_ITEM or (is_told and is_typed)

    def _is_timely(self, timestamp: int | str) -> bool:
        if isinstance(timestamp, int):
            moment = timestamp * (_SECOND if abs(timestamp) < times.SECONDS_BELOW else 1_000)
            return times.EARLIEST <= moment <= self._latest
        try:
            times.event_time(timestamp, "timestamp", self._latest, has_seconds=True)
        except EventError:
            return False
        return True


def _has_required(event: _Event) -> bool:
    values = _REQUIRED[event.event_type](event)
    return None not in values and all(map(str.strip, values))


def _names_somebody(text: str | None) -> bool:
    return text is not None and text.strip().lower() not in _NOBODY
