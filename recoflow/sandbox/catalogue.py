"""The catalogue of the sample publisher: articles and a small shop, and how fast each item's appeal fades.

What belongs here: items, their attributes, and drawing items of a topic at a time. What does not: readers and events.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recoflow.sandbox import vocabulary

MILLISECONDS_PER_DAY: Final = 86_400_000
PRODUCT_SHARE: Final = 0.08
ITEMS_PER_TOPIC: Final = 6  # a small world has fewer topics rather than topics of one item
ARCHIVE_SHARE: Final = 0.5  # of the articles were published before the first event…
ARCHIVE_DAYS: Final = 90  # …at most this long before it
FADING_DAYS: Final = 12.0  # an article's appeal falls by e in this time, down to a floor for the evergreen part
EVERGREEN: Final = 0.08
POPULARITY_EXPONENT: Final = 0.8  # zipf, within a topic
BUCKET: Final = MILLISECONDS_PER_DAY // 4  # appeal is constant within six hours

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SampleCatalogue:
    """Items and their places on the shelves; row i of `frame` is item i everywhere in the sandbox.

    `frame` has the columns of a Froomle-like item file, lists still as lists. Articles come first, then products; the
    topics of products likewise come after the `article_topics` topics of articles.
    """

    frame: pl.DataFrame
    topic: Integers  # [items]
    topics: tuple[tuple[vocabulary.Category, vocabulary.Topic], ...]
    article_topics: int
    starts: Integers  # [topics + 1] where each topic begins in `order`
    order: Integers  # item indices, sorted by topic
    steps: Floats  # [buckets × (items + 1)] running sums of appeal, one row per bucket
    first: int  # epoch milliseconds at which bucket 0 begins

    def draw(self, random: Floats, topic: Integers, milliseconds: Integers) -> Integers:
        """One item of each `topic`, by appeal at each time; never one that is not published yet.

        Args:
            random: uniform in [0, 1), one per draw.
            topic: indices of topics, one per draw.
            milliseconds: epoch times within the generated days, one per draw.
        """
        bucket = np.clip((milliseconds - self.first) // BUCKET, 0, len(self.steps) - 1)
        low, high = self.steps[bucket, self.starts[topic]], self.steps[bucket, self.starts[topic + 1]]
        total = self.steps[:, -1].max() + 1.0  # rows laid end to end are one sorted array: one binary search for all
        rows = self.steps + np.arange(len(self.steps))[:, None] * total
        target = low + random * (high - low) + bucket * total
        place = np.searchsorted(rows.ravel(), target, side="right") - 1 - bucket * self.steps.shape[1]
        chosen: Integers = self.order[np.clip(place, self.starts[topic], self.starts[topic + 1] - 1)]
        return chosen


def publish(random: np.random.Generator, items: int, begin: datetime, end: datetime) -> SampleCatalogue:
    """Make `items` items for events between `begin` and `end`."""
    products = max(2, round(items * PRODUCT_SHARE))
    articles = items - products
    topics, article_topics = _topics(articles, products)
    topic = np.concatenate(
        [
            _spread(random, articles, article_topics),
            article_topics + _spread(random, products, len(topics) - article_topics),
        ]
    )
    published = _publication(random, topic, articles, _milliseconds(begin), _milliseconds(end))
    frame = _frame(random, [topics[t] for t in topic], published, articles)
    order = np.argsort(topic, kind="stable")
    appeal = _appeal(_popularity(random, topic), published, articles, _milliseconds(begin), _milliseconds(end))
    return SampleCatalogue(
        frame=frame,
        topic=topic,
        topics=topics,
        article_topics=article_topics,
        starts=np.searchsorted(topic[order], np.arange(len(topics) + 1)),
        order=order,
        steps=np.pad(np.cumsum(appeal[:, order], axis=1), ((0, 0), (1, 0))),
        first=_milliseconds(begin),
    )


def _milliseconds(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _topics(articles: int, products: int) -> tuple[tuple[tuple[vocabulary.Category, vocabulary.Topic], ...], int]:
    reading = [(c, c.topics[i]) for i in range(4) for c in vocabulary.ARTICLES]
    shop = [(c, t) for c in vocabulary.PRODUCTS for t in c.topics]
    reading = reading[: max(1, min(len(reading), articles // ITEMS_PER_TOPIC))]
    shop = shop[: max(1, min(len(shop), products // ITEMS_PER_TOPIC))]
    return (*reading, *shop), len(reading)


def _spread(random: np.random.Generator, count: int, topics: int) -> Integers:
    """A topic for each item: the first ones in turn, so that no topic is empty, the rest by chance."""
    drawn = (random.random(count) * topics).astype(np.int64)
    drawn[:topics] = np.arange(topics)
    return drawn


def _publication(random: np.random.Generator, topic: Integers, articles: int, begin: int, end: int) -> Integers:
    """Epoch milliseconds; the first item of each topic and all products are older than the first event."""
    count = len(topic)
    moment, is_archived, hour = random.random(count), random.random(count) < ARCHIVE_SHARE, random.random(count)
    is_archived[articles:] = True
    is_archived[np.unique(topic, return_index=True)[1]] = True
    archive = begin - MILLISECONDS_PER_DAY * (1 + moment * (ARCHIVE_DAYS - 1))
    fresh = begin + moment * (end - begin)
    day = np.where(is_archived, archive, fresh).astype(np.int64) // MILLISECONDS_PER_DAY * MILLISECONDS_PER_DAY
    minute = 5 * 60 + (hour * 15 * 60).astype(np.int64)  # between 05:00 and 20:00
    time: Integers = np.minimum(day + minute * 60_000, end - BUCKET)
    return time


def _popularity(random: np.random.Generator, topic: Integers) -> Floats:
    """Zipf within each topic, in an order that chance gives."""
    shuffled = np.lexsort((random.random(len(topic)), topic))
    position = np.empty(len(topic), np.int64)
    position[shuffled] = np.arange(len(topic)) - np.searchsorted(topic[shuffled], topic[shuffled])
    weights: Floats = np.power(position + 1.0, -POPULARITY_EXPONENT)
    return weights


def _appeal(popularity: Floats, published: Integers, articles: int, begin: int, end: int) -> Floats:
    """What an item weighs in each bucket, [buckets × items]; nothing before it is published."""
    buckets = begin + BUCKET * np.arange(-(-(end - begin) // BUCKET))
    age = (buckets[:, None] - published[None, :]) / MILLISECONDS_PER_DAY
    fading = np.exp(-np.maximum(age, 0.0) / FADING_DAYS) + EVERGREEN
    fading[:, articles:] = 1.0  # the shop's shelf does not age
    weight: Floats = np.where(age >= 0, popularity * fading, 0.0)
    return weight


def _frame(
    random: np.random.Generator,
    topics: list[tuple[vocabulary.Category, vocabulary.Topic]],
    published: Integers,
    articles: int,
) -> pl.DataFrame:
    count = len(topics)
    draws = (random.random((count, 4)) * 10_000).astype(np.int64).tolist()
    access = np.where(random.random(count) < 0.35, "premium", "free").tolist()
    price = np.round(random.random(count) * 60 + 5).astype(np.int64).tolist()
    is_sold_out = (random.random(count) < 0.05).tolist()
    repeats: Counter[str] = Counter()
    rows = []
    times = pl.Series(published).cast(pl.Datetime("ms", "UTC")).dt.strftime("%Y-%m-%dT%H:%M:%SZ").to_list()
    for i, (category, topic) in enumerate(topics):
        title, description = vocabulary.compose(category, topic, (*draws[i],))
        repeats[title] += 1
        if repeats[title] > 1:
            title = f"{title} (part {repeats[title]})"
        is_article = i < articles
        number = i + 1 if is_article else i + 1 - articles
        item_id = f"article-{number:05d}" if is_article else f"product-{number:05d}"
        folder = f"{category.name}/{times[i][:10].replace('-', '/')}" if is_article else f"shop/{category.name}"
        rows.append(
            {
                "item_id": item_id,
                "item_type": "article" if is_article else "product",
                "title": title,
                "url": f"https://www.lorem.example/{folder}/{_slug(title)}-{number}",
                "categories": [category.name] if is_article else ["shop", category.name],
                "tags": sorted({topic.name, *topic.subjects[draws[i][1] % len(topic.subjects)].split()[-1:]}),
                "images": [f"https://images.lorem.example/{item_id}.jpg"],
                "access_type": access[i] if is_article else None,
                "publication_datetime": times[i],
                "description": description,
                "price": None if is_article else price[i] - 0.05,
                "availability": None if is_article else not is_sold_out[i],
            }
        )
    return pl.DataFrame(
        rows, schema_overrides={"price": pl.Float64, "availability": pl.Boolean}, infer_schema_length=None
    )


def _slug(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
