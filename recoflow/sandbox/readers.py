"""The readers of the sample publisher: their hidden tastes, how often they come, and the devices that they hold.

What belongs here: who visits, with what, and what they like. What does not: when they come and what they do (traffic).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recoflow.sandbox.catalogue import SampleCatalogue

ANONYMOUS_SHARE: Final = 0.15  # visitors that never log in, beside the users
SECOND_DEVICE_SHARE: Final = 0.38
SHARED_DEVICE_SHARE: Final = 0.02  # of the users also log in on the device of the next one
EARLY_LOGIN_SHARE: Final = 0.5  # of the devices are logged in from the first day on
ACTIVITY_EXPONENT: Final = 0.45  # zipf over visitors
TASTE_SHARES: Final = (0.42, 0.25, 0.15)  # of a reader's choices go to each favourite topic, the rest to any topic
TOPIC_EXPONENT: Final = 0.5  # zipf over topics, for the readers' favourites and for the rest
CHANNELS: Final = ("www-desktop", "www-mobile", "app-ios", "app-android")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Audience:
    """Visitors 0…users-1 are the users, the others are anonymous; a device is an index into `device_ids`."""

    user_ids: list[str]
    device_ids: list[str]
    device_channel: Integers  # [devices] index into CHANNELS
    device_login: Floats  # [devices] share of the days after which it stays logged in
    devices: Integers  # [visitors × 3], repeated where a visitor has fewer
    favourites: Integers  # [visitors × 3] topics of articles
    shelf: Integers  # [visitors] favourite topic of the shop
    topic_steps: Floats  # [article topics] running shares of the topics over all readers
    activity_steps: Floats  # [visitors] running shares of the visits

    @property
    def users(self) -> int:
        """Number of visitors that have a user id."""
        return len(self.user_ids)

    def taste(self, random: Floats, visitor: Integers) -> Integers:
        """A topic of articles that each visitor reaches for; `random` is uniform, [visitors × 2]."""
        slot = np.searchsorted(np.cumsum(TASTE_SHARES), random[:, 0], side="right")
        favourite = self.favourites[visitor, np.minimum(slot, 2)]
        return np.where(slot < len(TASTE_SHARES), favourite, self.anything(random[:, 1]))

    def anything(self, random: Floats) -> Integers:
        """A topic by its popularity among all readers."""
        return pick(self.topic_steps, random)

    def likes(self, visitor: Integers, topic: Integers) -> NDArray[np.bool_]:
        """Whether each topic is among each visitor's favourites (the shop's favourite shelf counts)."""
        return np.asarray((self.favourites[visitor] == topic[:, None]).any(axis=1) | (self.shelf[visitor] == topic))


def pick(steps: Floats, random: Floats) -> Integers:
    """Indices drawn by running shares that end at 1."""
    return np.minimum(np.searchsorted(steps, random, side="right"), len(steps) - 1)


def quota(random: np.random.Generator, count: int, share: float) -> NDArray[np.bool_]:
    """Exactly `share` of `count` at random places, and one at least: small worlds must show everything too."""
    chosen = np.zeros(count, np.bool_)
    chosen[np.argsort(random.random(count), kind="stable")[: max(1, round(count * share))]] = True
    return chosen


def zipf(count: int, exponent: float) -> Floats:
    """Running shares of `count` ranks."""
    steps = np.cumsum((np.arange(count) + 1.0) ** -exponent)
    return np.asarray(steps / steps[-1])


def make_readers(random: np.random.Generator, users: int, catalogue: SampleCatalogue) -> Audience:
    """Make `users` users, the anonymous visitors beside them, and everybody's devices."""
    visitors = users + max(1, round(users * ANONYMOUS_SHARE))
    devices, count = _devices(random, users, visitors)
    topic_steps = zipf(catalogue.article_topics, TOPIC_EXPONENT)
    login = random.random(count)
    login[quota(random, count, EARLY_LOGIN_SHARE)] = 0.0
    return Audience(
        user_ids=[f"reader-{i + 1:05d}" for i in range(users)],
        device_ids=[f"device-{i + 1:05d}" for i in range(count)],
        device_channel=pick(np.array([0.35, 0.7, 0.85, 1.0]), random.random(count)),
        device_login=login,
        devices=devices,
        favourites=_favourites(random, visitors, topic_steps, catalogue),
        shelf=catalogue.article_topics
        + (random.random(visitors) * (len(catalogue.topics) - catalogue.article_topics)).astype(np.int64),
        topic_steps=topic_steps,
        activity_steps=_activity(random, visitors),
    )


def _devices(random: np.random.Generator, users: int, visitors: int) -> tuple[Integers, int]:
    first = np.arange(visitors)
    devices = np.repeat(first[:, None], 3, axis=1)
    has_second = quota(random, users, SECOND_DEVICE_SHARE).nonzero()[0]
    devices[has_second, 1] = visitors + np.arange(len(has_second))
    shares = quota(random, users, SHARED_DEVICE_SHARE).nonzero()[0]
    devices[shares, 2] = first[(shares + 1) % users]
    return devices, visitors + len(has_second)


def _favourites(
    random: np.random.Generator, visitors: int, topic_steps: Floats, catalogue: SampleCatalogue
) -> Integers:
    """A main topic, another one of the same category where there is one, and any third one."""
    section: dict[str, list[int]] = {}
    for t in range(catalogue.article_topics):
        section.setdefault(catalogue.topics[t][0].name, []).append(t)
    neighbours = [section[catalogue.topics[t][0].name] for t in range(catalogue.article_topics)]
    width = max(map(len, neighbours))
    table = np.array([(n * width)[:width] for n in neighbours])
    main, third = pick(topic_steps, random.random(visitors)), pick(topic_steps, random.random(visitors))
    second = table[main, (random.random(visitors) * width).astype(np.int64)]
    return np.stack([main, second, third], axis=1)


def _activity(random: np.random.Generator, visitors: int) -> Floats:
    weights = np.diff(zipf(visitors, ACTIVITY_EXPONENT), prepend=0.0)
    return np.cumsum(weights[np.argsort(random.random(visitors), kind="stable")])
