from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recoflow import schema
from recoflow.ingest.run import ingest_file
from recoflow.sandbox import noise, sample, world
from recoflow.schema import Counts
from recoflow.settings import environment
from recoflow.storage.lake.lake import Lake

END = datetime(2026, 11, 22, tzinfo=UTC)
SAMPLE = Path(__file__).parents[2] / "data" / "sample"


@pytest.fixture(scope="module")
def town() -> world.World:
    return world.generate(seed=3, users=800, items=500, events=40_000, end=END)


@pytest.fixture(scope="module")
def files(town: world.World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Counts]]:
    folder = tmp_path_factory.mktemp("world")
    return folder, world.write_world(town, folder)


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        small = world.generate(seed=5, users=30, items=40, events=600, days=5, end=END)
        world.write_world(small, tmp_path / name)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_another_seed_gives_another_world() -> None:
    one, two = (world.generate(seed=seed, users=30, items=40, events=600, days=5, end=END) for seed in (1, 2))
    assert not one.events.equals(two.events)
    assert not one.items.equals(two.items)


def test_the_committed_sample_is_what_the_generator_writes(tmp_path: Path) -> None:
    sample.write_sample(tmp_path)
    committed = {path.name: path.read_bytes() for path in SAMPLE.iterdir() if path.name != "README.md"}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == committed


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    users=st.integers(5, 40),
    items=st.integers(15, 80),
    events=st.integers(150, 900),
    days=st.integers(2, 20),
    minutes=st.integers(0, 24 * 60),
)
def test_a_world_of_any_size_shows_everything(
    *, seed: int, users: int, items: int, events: int, days: int, minutes: int
) -> None:
    end = END + timedelta(minutes=minutes)
    small = world.generate(seed=seed, users=users, items=items, events=events, days=days, end=end)
    assert small.events.height == small.expected.accepted == events
    assert small.events.is_unique().all()
    assert set(small.events["event_type"]) == set(schema.EVENT_TYPES)
    assert small.dirt["kind"].n_unique() == 8
    assert small.items.height == items
    assert small.events["timestamp"].min() >= end - timedelta(days=days)  # type: ignore[operator]
    assert small.events["timestamp"].max() < end  # type: ignore[operator]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"end": datetime(2026, 11, 22)}, "time zone"),  # noqa: DTZ001
        ({"items": 10}, "too few"),
        ({"events": 40}, "too few"),
    ],
)
def test_a_world_that_cannot_be_made_says_why(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        world.generate(**({"users": 20, "items": 30, "events": 200, "days": 3, "end": END} | wrong))  # type: ignore[arg-type]


def test_every_event_has_the_fields_that_its_type_requires(town: world.World) -> None:
    item = ("action_item", "action_item_type")
    mailed = ("campaign_id", "list_name", "request_id", *item)
    required = {
        "page_visit": ("page_type",),
        "detail_pageview": ("page_type", *item),
        "impression": ("list_name", "request_id", "page_type", *item),
        "click_on_recommendation": ("list_name", "request_id", "page_type", *item),
        "item_interaction": ("interaction_type", *item),
        "user_interaction": ("interaction_type",),
        "checkpoint": ("checkpoint", *item),
        "add_to_cart": item,
        "remove_from_cart": item,
        "batch_open": ("campaign_id",),
        "batch_impression": mailed,
        "batch_click_on_recommendation": mailed,
        "purchase": (*item, "price", "quantity", "order_id", "currency"),
    }
    for event_type, names in required.items():
        events = town.events.filter(event_type=event_type)
        assert sum(events[name].null_count() for name in names) == 0, event_type
    assert town.events.filter(pl.col("user_id").is_null() & pl.col("device_id").is_null()).is_empty()
    assert set(town.events["channel"]) <= set(schema.CHANNELS)
    assert set(town.events["page_type"].drop_nulls()) <= set(schema.PAGE_TYPES)


@pytest.mark.parametrize("prefix", ["", "batch_"])
def test_every_click_joins_the_impression_that_it_came_from(town: world.World, prefix: str) -> None:
    key = ["request_id", "list_name", "rank", "action_item", "channel"]
    seen = town.events.filter(event_type=f"{prefix}impression")
    clicks = town.events.filter(event_type=f"{prefix}click_on_recommendation")
    joined = clicks.join(seen, on=key, suffix="_seen")
    assert joined.height == clicks.height > 0
    assert (joined["timestamp"] >= joined["timestamp_seen"]).all()


def test_a_list_ranks_different_items_from_one_without_gaps(town: world.World) -> None:
    lists = (
        town.events.filter(pl.col("event_type").is_in(["impression", "batch_impression"]))
        .group_by("request_id")
        .agg(pl.len(), items=pl.col("action_item").n_unique(), last=pl.col("rank").max(), first=pl.col("rank").min())
    )
    assert lists.filter((pl.col("len") != pl.col("items")) | (pl.col("last") != pl.col("len"))).is_empty()
    assert set(lists["first"]) == {1}


def test_a_mail_is_opened_before_it_is_clicked_and_once_per_reader(town: world.World) -> None:
    opens = town.events.filter(event_type="batch_open")
    assert opens.select("user_id", "campaign_id").is_unique().all()
    clicks = town.events.filter(event_type="batch_click_on_recommendation")
    joined = clicks.join(opens, on=["user_id", "campaign_id"], suffix="_open")
    assert joined.height == clicks.height
    assert (joined["timestamp"] > joined["timestamp_open"]).all()


def test_nothing_is_seen_before_it_is_published(town: world.World) -> None:
    published = town.items.select(
        pl.col("item_id").alias("action_item"),
        pl.col("publication_datetime").str.to_datetime(time_unit="ms", time_zone="UTC"),
    )
    joined = town.events.join(published, on="action_item")
    assert joined.height > 30_000
    assert joined.filter(pl.col("timestamp") < pl.col("publication_datetime")).is_empty()


def test_purchases_follow_a_cart_and_carry_the_price_of_the_item(town: world.World) -> None:
    purchases = town.events.filter(event_type="purchase")
    carts = town.events.filter(event_type="add_to_cart").select("user_id", "action_item", added="timestamp")
    joined = purchases.join(carts, on=["user_id", "action_item"]).filter(pl.col("added") < pl.col("timestamp"))
    assert joined.select("event_id").unique().height == purchases.height
    priced = purchases.join(town.items.select("item_id", cost="price"), left_on="action_item", right_on="item_id")
    assert (priced["price"] == priced["cost"]).all()


def test_identity_has_anonymous_shared_and_late_devices(town: world.World) -> None:
    devices = (
        town.events.filter(pl.col("device_id").is_not_null())
        .group_by("device_id")
        .agg(
            users=pl.col("user_id").drop_nulls().n_unique(),
            is_late=pl.col("user_id").sort_by("timestamp").first().is_null() & pl.col("user_id").is_not_null().any(),
        )
    )
    found = Counter(devices["users"])
    assert found[0] > 50  # never logged in
    assert found[2] >= 3  # shared
    assert devices.filter("is_late").height > 50  # browsed before the log-in
    assert (town.events.group_by("user_id").agg(pl.col("device_id").n_unique())["device_id"] >= 2).any()


def test_readers_come_by_day_rather_than_by_night(town: world.World) -> None:
    hours = Counter(town.events["timestamp"].dt.hour())
    assert hours[20] > 4 * hours[3]


def test_titles_are_sentences_and_urls_are_unique(town: world.World) -> None:
    assert town.items["title"].is_unique().all()
    assert town.items["url"].is_unique().all()
    assert town.items["title"].str.contains(r"[{}]|(?i)lorem").sum() == 0
    assert (town.items["title"].str.slice(0, 1) == town.items["title"].str.slice(0, 1).str.to_uppercase()).all()


def test_the_files_hold_what_was_promised(town: world.World, files: tuple[Path, dict[str, Counts]]) -> None:
    folder, counts = files
    assert {path.name for path in folder.iterdir()} == set(counts)
    events = {name: count for name, count in counts.items() if "_items_" not in name}
    assert sum(events.values(), Counts()) == town.expected
    for name, count in events.items():
        is_csv = name.endswith(".csv")
        assert len((folder / name).read_text("utf-8").splitlines()) - is_csv == count.read, name


def test_an_event_file_holds_its_day_and_only_broken_lines_fail(
    town: world.World, files: tuple[Path, dict[str, Counts]]
) -> None:
    folder, counts = files
    broken, repeated = 0, 0
    for name in (name for name in counts if "_events_" in name):
        lines = (folder / name).read_text("utf-8").splitlines()
        repeated += len(lines) - len(set(lines))
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                broken += 1
                continue
            assert event["timestamp"][:10] == name[13:23]
            assert None not in event.values()
    assert broken == town.dirt.filter(kind="not_json").height > 0
    assert repeated == town.dirt.filter(kind=noise.DUPLICATE).height > 0


def test_the_days_can_be_bundled_into_fewer_files(town: world.World, tmp_path: Path) -> None:
    counts = world.write_world(town, tmp_path, days_per_file=30)
    assert sorted(name for name in counts if "_events_" in name) == [
        "lorem_events_2026-09-23.jsonl",
        "lorem_events_2026-10-23.jsonl",
    ]
    assert sum((count for name, count in counts.items() if "_items_" not in name), Counts()) == town.expected


def test_an_ingest_counts_exactly_what_was_promised(tmp_path: Path) -> None:
    small = world.generate(users=60, items=60, events=2_000, days=10, end=END)
    counts = world.write_world(small, tmp_path / "files", days_per_file=10)
    lorem = environment.load_environment(SAMPLE.parent / "environments" / "lorem.yaml")
    lake = Lake(tmp_path / "lake")
    found = {name: ingest_file(tmp_path / "files" / name, lorem, lake, END).counts for name in counts}
    assert found == counts


def test_lists_of_an_item_are_json_in_a_cell(town: world.World, files: tuple[Path, dict[str, Counts]]) -> None:
    folder, counts = files
    (name,) = (name for name in counts if "_items_" in name)
    rows = pl.read_csv(folder / name)
    assert [json.loads(cell) for cell in rows["categories"]] == town.items["categories"].to_list()
    assert rows["item_id"].equals(town.items["item_id"])


def test_a_request_has_the_form_of_the_specification(town: world.World) -> None:
    text = world.request(town, ["some-user", "some-other-user"], lists={"Relevant for you this week": 5})
    assert text.splitlines() == [
        '"environment","user_id","device_id","list_name","list_size","page_type"',
        '"lorem","some-user",,"Relevant for you this week",5,"weekly_mail"',
        '"lorem","some-other-user",,"Relevant for you this week",5,"weekly_mail"',
    ]
    assert len(world.request(town).splitlines()) == 1 + len(town.users) * len(world.LISTS)
    assert world.request_name(town) == "lorem_weekly_mail_2026-11-22T00:00:00Z.csv"


def test_tastes_can_be_learnt_better_than_popularity_and_that_better_than_chance(town: world.World) -> None:
    """Neighbouring items by cosine on the first 50 days, asked for what comes after; recall@10 of unseen items."""
    views = town.events.filter(event_type="detail_pageview").with_columns(subject=pl.coalesce("user_id", "device_id"))
    index = {item: i for i, item in enumerate(town.items["item_id"])}
    people = {subject: i for i, subject in enumerate(views["subject"].unique().sort())}
    rows = np.array([people[s] for s in views["subject"]])
    columns = np.array([index[i] for i in views["action_item"]])
    is_past = (views["timestamp"] < END - timedelta(days=10)).to_numpy()
    past, future = (np.zeros((len(people), len(index)), np.float32) for _ in range(2))
    past[rows[is_past], columns[is_past]] = 1
    future[rows[~is_past], columns[~is_past]] = 1
    future[past > 0] = 0
    asked = (future.sum(1) > 0) & (past.sum(1) > 0)

    def recall(scores: np.ndarray) -> float:
        scores = np.where(past > 0, -np.inf, scores)[asked]
        best = np.argpartition(-scores, 10, axis=1)[:, :10]
        hits = np.take_along_axis(future[asked], best, axis=1).sum(1)
        return float((hits / np.minimum(10, future[asked].sum(1))).mean())

    vectors = past / np.maximum(np.linalg.norm(past, axis=0), 1e-6)
    taste = recall(past @ (vectors.T @ vectors))
    popularity = recall(np.broadcast_to(past.sum(0), past.shape))
    chance = recall(np.random.default_rng(0).random(past.shape))
    assert taste > 1.5 * popularity
    assert popularity > 1.5 * chance
