"""Seeded event files of a size, one per format, to measure reading with: made by columns, kept where git ignores them.

Froomle files hold one person's typical mix: page visits, detail page views, impressions of lists of ten, clicks,
purchases. The Metarank file has the shares of a recommender's log: rankings of 4 to 12 items, interactions with them,
catalogue updates. No event is broken and none is doubled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

CACHE = Path(__file__).resolve().parent.parent / "data" / "benchmarks"
BLOCK = 500_000  # events that are made at once
SEED = 20_261_122
BEGIN, DAYS = 1_777_000_000_000, 60  # milliseconds since 1970

SHARES = {
    "page_visit": 0.15,
    "detail_pageview": 0.3,
    "impression": 0.4,
    "click_on_recommendation": 0.06,
    "add_to_cart": 0.04,
    "item_interaction": 0.03,
    "purchase": 0.02,
}
RANKINGS, UPDATES = 0.17, 0.05  # the rest of a Metarank file are interactions


def froomle_jsonl(path: Path, events: int) -> None:
    with path.open("wb") as file:
        for frame in _froomle(events):
            members = [
                pl.concat_str(pl.lit(f',"{name}":'), _json(frame[name].dtype, name)).fill_null("")
                for name in frame.columns[1:]
            ]
            head = pl.concat_str(pl.lit('{"event_type":'), _json(pl.String(), "event_type"))
            _write_lines(file, frame.select(pl.concat_str(head, *members, pl.lit("}"))))


def froomle_csv(path: Path, events: int) -> None:
    with path.open("wb") as file:
        for index, frame in enumerate(_froomle(events)):
            frame.write_csv(file, include_header=index == 0)


def metarank_jsonl(path: Path, events: int) -> None:
    with path.open("wb") as file:
        for start in range(0, events, BLOCK):
            _write_lines(file, _metarank(start, min(BLOCK, events - start)))


FORMATS = {
    "froomle.jsonl": ("Froomle JSON lines", froomle_jsonl),
    "froomle.csv": ("Froomle CSV", froomle_csv),
    "metarank.jsonl": ("Metarank JSON lines", metarank_jsonl),
}


def load(name: str, events: int, cache: Path = CACHE) -> Path:
    """The file of one of `FORMATS`, from the cache if it is there."""
    path = cache / f"events-{SEED}-{events}" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        half_made = path.with_name(f"{name}.part")
        FORMATS[name][1](half_made, events)
        half_made.rename(path)
    return path


def _froomle(events: int):
    for start in range(0, events, BLOCK):
        yield _froomle_block(start, min(BLOCK, events - start))


def _froomle_block(start: int, count: int) -> pl.DataFrame:
    random = np.random.default_rng([SEED, start])
    number = pl.int_range(start, start + count)
    kind = pl.col("event_type")
    is_shown = kind.is_in(["impression", "click_on_recommendation"])
    columns = {
        "event_type": np.array([*SHARES])[random.choice(len(SHARES), count, p=[*SHARES.values()])],
        "user_id": random.integers(0, 200_000, count),
        "device_id": random.integers(0, 300_000, count),
        "channel": np.array(["www-desktop", "app-ios", "www-mobile"])[random.integers(0, 3, count)],
        "page_type": np.array(["home", "article_detail", "category"])[random.integers(0, 3, count)],
        "action_item": _popular(random, count),
        "action_item_type": np.repeat("article", count),
        "timestamp": _moments(random, count),
        "price": random.integers(100, 9999, count) / 100,
    }
    return pl.DataFrame(columns).select(
        "event_type",
        _numbered("user-", pl.col("user_id")).alias("user_id"),
        _numbered("dev-", pl.col("device_id")).alias("device_id"),
        "channel",
        "page_type",
        _numbered("item-", pl.col("action_item")).alias("action_item"),
        "action_item_type",
        "timestamp",
        event_id=_uuid(number),
        request_id=pl.when(is_shown).then(_numbered("req-", number // 10)),
        list_name=pl.when(is_shown).then(pl.lit("Relevant for you")),
        rank=pl.when(is_shown).then(number % 10 + 1),
        interaction_type=pl.when(kind == "item_interaction").then(pl.lit("product_like")),
        price=pl.when(kind == "purchase").then("price"),
    )


def _metarank(start: int, count: int) -> pl.DataFrame:
    random = np.random.default_rng([SEED, start])
    kind = random.choice(3, count, p=[RANKINGS, UPDATES, 1 - RANKINGS - UPDATES])
    frame = pl.DataFrame(
        {
            "kind": kind,
            "item": _popular(random, count),
            "user": random.integers(0, 200_000, count),
            "timestamp": _moments(random, count),
            "share": random.integers(1, 1000, count) / 10,
            "items": _item_lists(random, count),
        }
    ).with_columns(number=pl.int_range(start, start + count))
    shared = pl.concat_str(
        pl.lit('"id":"'), _uuid(pl.col("number")), pl.lit('","timestamp":"'), pl.col("timestamp"), pl.lit('"')
    )
    visitor = pl.concat_str(
        pl.lit(',"user":"user-'), pl.col("user"), pl.lit('","session":"'), _uuid(pl.col("number") // 20), pl.lit('"')
    )
    ranking = pl.concat_str(
        pl.lit('{"event":"ranking",'), shared, visitor, pl.lit(',"fields":[],"items":['), pl.col("items"), pl.lit("]}")
    )
    update = pl.concat_str(
        pl.lit('{"event":"item",'), shared, pl.lit(',"item":"item-'), pl.col("item"),
        pl.lit('","fields":[{"name":"title","value":"Item '), pl.col("item"),
        pl.lit('"},{"name":"popularity","value":'), pl.col("share"),
        pl.lit('},{"name":"genres","value":["drama","comedy"]}]}'),
    )  # fmt: skip
    interaction = pl.concat_str(
        pl.lit('{"event":"interaction",'), shared, visitor, pl.lit(',"ranking":"'), _uuid(pl.col("number") // 7),
        pl.lit('","item":"item-'), pl.col("item"), pl.lit('","type":"click","fields":[]}'),
    )  # fmt: skip
    return frame.select(
        pl.when(pl.col("kind") == 0).then(ranking).when(pl.col("kind") == 1).then(update).otherwise(interaction)
    )


def _item_lists(random: np.random.Generator, count: int) -> pl.Series:
    """The inside of a ranking's `items` per event."""
    lengths = random.integers(4, 13, count)
    total = int(lengths.sum())
    shown = pl.DataFrame(
        {
            "event": np.repeat(np.arange(count), lengths),
            "item": _popular(random, total),
            "score": random.integers(1, 1000, total) / 100,
        }
    )
    text = pl.concat_str(
        pl.lit('{"id":"item-'), pl.col("item"), pl.lit('","fields":[{"name":"relevancy","value":'), pl.col("score"),
        pl.lit("}]}"),
    )  # fmt: skip
    grouped = shown.with_columns(text=text).group_by("event", maintain_order=True).agg(pl.col("text").str.join(","))
    return grouped["text"]


def _popular(random: np.random.Generator, count: int) -> np.ndarray:
    return (50_000 * random.random(count) ** 3).astype(np.int64)


def _moments(random: np.random.Generator, count: int) -> np.ndarray:
    return BEGIN + random.integers(0, DAYS * 86_400_000, count)


def _numbered(prefix: str, number: pl.Expr) -> pl.Expr:
    return pl.concat_str(pl.lit(prefix), number)


def _uuid(number: pl.Expr) -> pl.Expr:
    """A text with the length of a UUID; multiplied, so that neighbours differ in their first digits as UUIDs do."""
    digits = ((number + 1) * 0x9E3779B1 % (1 << 32)).cast(pl.String).str.zfill(10)
    return pl.concat_str(
        digits.str.slice(0, 8), pl.lit("-4fb4-4409-b2c6-"), digits.str.slice(8), number.cast(pl.String).str.zfill(10)
    )


def _json(dtype: pl.DataType, name: str) -> pl.Expr:
    return pl.concat_str(pl.lit('"'), name, pl.lit('"')) if dtype == pl.String else pl.col(name).cast(pl.String)


def _write_lines(file, lines: pl.DataFrame) -> None:
    lines.write_csv(file, include_header=False, quote_style="never")
