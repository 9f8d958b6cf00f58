from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recoflow import schema
from recoflow.campaigns import freshness, inputs
from recoflow.errors import ModelError
from recoflow.interactions import build, catalogue, identity
from recoflow.models.algorithms import matrix, train
from recoflow.models.store import bundle_validation
from recoflow.models.store.bundle import Bundle
from recoflow.models.training import pipeline
from recoflow.settings.environment import Environment
from recoflow.settings.sections import Sftp, TrainingSettings
from recoflow.storage import sql
from recoflow.storage.lake.lake import Lake
from recoflow_tests.campaigns.conftest import NOW

pytestmark = pytest.mark.slow

SFTP = Sftp(username="lorem", private_key=Path("key"), known_hosts=Path("hosts"))
MODELS = {"als": {"algorithm": "als", "factors": 8, "regularization": 0.01, "alpha": 10}}
ENVIRONMENT = Environment(name="lorem", sftp=SFTP, training=TrainingSettings.model_validate({"models": MODELS}))
USERS = [f"u{number:02}" for number in range(40)]


class Town:
    """A lake that is filled and derived step by step; times are hours before NOW."""

    def __init__(self, root: Path) -> None:
        self.lake = Lake(root)

    def events(self, *rows: dict[str, object]) -> None:
        usual = {"event_type": "detail_pageview", "hours": 1}
        full = [usual | row for row in rows]
        timed = [{**row, "timestamp": NOW - timedelta(hours=float(str(row["hours"])))} for row in full]
        self.lake.append("events", pl.DataFrame(timed, schema=schema.EVENTS))

    def item(self, item: str, *, hours: float = 1, operation: str = "upsert", **fields: object) -> None:
        row = {"entity": "item", "entity_id": item, "operation": operation, "fields": json.dumps(fields)}
        row |= {"event_id": f"{item}-{hours}", "timestamp": NOW - timedelta(hours=hours)}
        self.lake.append("updates", pl.DataFrame([row], schema=schema.UPDATES))

    def derive(self) -> dict[str, int | None]:
        with sql.connect() as connection:
            self.lake.views(connection)
            self.lake.overwrite("items", catalogue.fold(connection))
            self.lake.overwrite("identity", identity.resolve_devices(connection))
            self.lake.overwrite("interactions", build.interactions(connection, ENVIRONMENT, NOW))
        return inputs.current_tables(self.lake)

    def train(self) -> Bundle:
        tables = inputs.current_tables(self.lake)
        frames = (self.lake.scan(name).collect() for name in ("interactions", "items", "identity"))
        made = pipeline.train_environment(*frames, ENVIRONMENT, None, NOW, tables).bundle
        assert made is not None
        everything = matrix.from_interactions(
            self.lake.scan("interactions").collect(),
            subjects=made.subjects,
            items=matrix.ids(made.items["item_id"]),
        )
        near = train.train(everything, ENVIRONMENT.training.models["als"].model_copy(update={"algorithm": "ease"}), 1)
        return dataclasses.replace(made, alternatives={"near": near})


def history(seed: int = 1) -> list[dict[str, object]]:
    rng = np.random.default_rng(seed)
    return [
        {"user_id": user, "item_id": f"i{2 * int(item) + number % 2:02}", "hours": 30 + number + 40 * turn}
        for number, user in enumerate(USERS)
        for turn, item in enumerate(rng.choice(12, 6, replace=False))
    ]


@pytest.fixture
def town(tmp_path: Path) -> SimpleNamespace:
    made = Town(tmp_path / "lake")
    made.events(*history(), {"user_id": "u03", "device_id": "phone", "item_id": "i01", "hours": 60})
    for number in range(24):
        made.item(f"i{number:02}", hours=500, url=f"https://lorem.test/{number}")
    made.derive()
    return SimpleNamespace(town=made, bundle=made.train(), tables=inputs.current_tables(made.lake))


def asked(*people: tuple[str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(people, schema={"user_id": pl.String, "device_id": pl.String}, orient="row")


EVERYBODY = asked(*((user, None) for user in USERS))


def seen_of(bundle: Bundle, subject: str) -> dict[str, int]:
    row = bundle.subjects.tolist().index(subject)
    stretch = slice(*bundle.seen_indptr[row : row + 2])
    items = bundle.items["item_id"].gather(bundle.seen_indices[stretch].tolist())
    return dict(zip(items, bundle.seen_types[stretch].tolist(), strict=True))


def test_while_the_tables_are_those_of_the_training_the_bundle_itself_is_answered_with(town):
    bundle = freshness.with_current_items(town.bundle, town.town.lake, town.tables)
    assert bundle is town.bundle
    assert freshness.fold_in_new_events(bundle, EVERYBODY, town.town.lake, town.tables) is town.bundle


def test_tables_that_were_only_written_again_change_nobody(town):
    tables = town.town.derive()
    bundle = freshness.fold_in_new_events(town.bundle, EVERYBODY, town.town.lake, tables)
    assert bundle.user_factors is town.bundle.user_factors


def test_people_who_did_something_since_are_folded_in_and_the_others_stay(town):
    town.town.events(
        {"user_id": "u01", "item_id": "i02"},
        {"user_id": "u02", "item_id": "i03", "hours": 900},  # late: it happened before the training
        {"user_id": "new", "item_id": "i04"},
        {"user_id": "new", "item_id": "i06", "event_type": "purchase"},
        {"user_id": "unasked", "item_id": "i06"},
    )
    tables = town.town.derive()
    bundle = freshness.fold_in_new_events(
        town.bundle, asked(("u01", None), ("u02", None), ("u05", None), ("new", None)), town.town.lake, tables
    )
    bundle_validation.check_bundle(bundle, "fresh")
    assert bundle.subjects.tolist() == ["u:new", "u:u01", "u:u02", "u:u05"]
    old = town.bundle.subjects.tolist().index("u:u05")
    np.testing.assert_array_equal(bundle.user_factors[3], town.bundle.user_factors[old])
    expected = folded_by_hand(town.bundle, town.town.lake, ["u:new", "u:u01", "u:u02"])
    for scorer, by_hand in zip((bundle.scorer, bundle.alternatives["near"]), expected, strict=True):
        np.testing.assert_allclose(scorer.score(np.arange(3)), by_hand, rtol=1e-4, atol=1e-5)
    assert seen_of(bundle, "u:new") == {
        "i04": schema.event_type_bits(["detail_pageview"]),
        "i06": schema.event_type_bits(["purchase"]),
    }
    assert "i03" in seen_of(bundle, "u:u02")


def folded_by_hand(bundle: Bundle, lake: Lake, subjects: list[str]) -> Iterator[np.ndarray]:
    """Scores of each model for what the current table says of these subjects, row by row."""
    position = {item: number for number, item in enumerate(bundle.items["item_id"])}
    weights = np.zeros((len(subjects), len(position)), np.float32)
    for subject, item, weight in lake.scan("interactions").select("subject", "item_id", "weight").collect().iter_rows():
        if subject in subjects and weight > 0:
            weights[subjects.index(subject), position[item]] = weight
    from scipy import sparse

    for scorer in (bundle.scorer, bundle.alternatives["near"]):
        yield scorer.fold_in(sparse.csr_matrix(weights)).score(np.arange(len(subjects)))


def test_who_is_forgotten_is_unknown_at_once(town):
    town.town.lake.delete("events", "user_id = 'u07'")
    tables = town.town.derive()
    bundle = freshness.fold_in_new_events(town.bundle, asked(("u07", None), ("u08", None)), town.town.lake, tables)
    assert bundle.subjects.tolist() == ["u:u08"]


def test_nobody_is_left_when_everybody_asked_for_is_forgotten(town):
    town.town.lake.delete("events", "user_id = 'u07'")
    tables = town.town.derive()
    bundle = freshness.fold_in_new_events(town.bundle, asked(("u07", None), ("x", "y")), town.town.lake, tables)
    bundle_validation.check_bundle(bundle, "fresh")
    assert bundle.subjects.tolist() == []


def test_a_table_that_does_not_exist_says_nothing(town, tmp_path):
    nothing = Lake(tmp_path / "empty")
    tables = inputs.current_tables(nothing)
    bundle = freshness.with_current_items(town.bundle, nothing, tables)
    assert freshness.fold_in_new_events(bundle, EVERYBODY, nothing, tables) is town.bundle


def test_a_device_that_a_second_user_logged_into_stands_for_itself_at_once(town):
    assert "phone" in town.bundle.devices["device_id"]
    town.town.events(
        {"user_id": "u09", "device_id": "phone", "item_id": "i05"}, {"device_id": "phone", "item_id": "i07"}
    )
    tables = town.town.derive()
    bundle = freshness.fold_in_new_events(town.bundle, asked((None, "phone"), ("u03", None)), town.town.lake, tables)
    assert bundle.devices.rows() == [("phone", None)]
    assert seen_of(bundle, "d:phone") == {"i07": schema.event_type_bits(["detail_pageview"])}


def test_items_that_came_or_changed_since_are_those_of_the_catalogue(town):
    town.town.item("i00", operation="delete")
    town.town.item("i01", url="https://lorem.test/elsewhere")
    town.town.item("a-first", url="x")
    town.town.item("i11-between")
    town.town.events({"user_id": "u01", "item_id": "a-first"})
    tables = town.town.derive()
    items = freshness.with_current_items(town.bundle, town.town.lake, tables)
    bundle_validation.check_bundle(items, "fresh")
    assert items.items.equals(town.town.lake.scan("items").collect())
    old = [items.items["item_id"].to_list().index(item) for item in town.bundle.items["item_id"]]
    assert not items.items["is_enabled"][old[0]]
    rows = np.arange(len(items.subjects))
    for mine, before in (
        (items.scorer, town.bundle.scorer),
        (items.alternatives["near"], town.bundle.alternatives["near"]),
    ):
        scores = mine.score(rows)
        np.testing.assert_allclose(scores[:, old], before.score(rows), rtol=1e-5, atol=1e-6)
        assert not np.delete(scores, old, axis=1).any()
    np.testing.assert_array_equal(items.popular[old], town.bundle.popular)
    assert items.popular.sum() == town.bundle.popular.sum()
    assert seen_of(items, "u:u05") == seen_of(town.bundle, "u:u05")
    people = freshness.fold_in_new_events(items, asked(("u01", None)), town.town.lake, tables)
    assert "a-first" in seen_of(people, "u:u01")


class _ByUrl:
    """Places an item where its URL says."""

    def encode(self, items: pl.DataFrame) -> np.ndarray:
        urls = items["attributes"].str.json_path_match("$.url").str.slice(-1).cast(pl.Float32)
        return np.repeat(urls.to_numpy()[:, None], 8, axis=1)


def test_new_items_are_placed_by_what_their_attributes_tell(town):
    town.town.item("a-first", url="https://lorem.test/3")
    town.town.item("z-last", url="https://lorem.test/5")
    tables = town.town.derive()
    told = dataclasses.replace(town.bundle, item_encoder=_ByUrl())
    items = freshness.with_current_items(told, town.town.lake, tables)
    width = items.item_factors.shape[1]
    np.testing.assert_array_equal(items.item_factors[[0, -1]], [[3] * width, [5] * width])
    np.testing.assert_array_equal(items.item_factors[1:-1], town.bundle.item_factors)


def test_an_earlier_version_of_the_tables_gives_what_it_gave(town):
    town.town.events({"user_id": "u01", "item_id": "i02"})
    tables = town.town.derive()
    first = freshness.fold_in_new_events(town.bundle, EVERYBODY, town.town.lake, tables)
    town.town.events({"user_id": "u01", "item_id": "i04"}, {"user_id": "u02", "item_id": "i02"})
    town.town.item("i03", operation="delete")
    town.town.derive()
    again = freshness.fold_in_new_events(town.bundle, EVERYBODY, town.town.lake, tables)
    assert again.user_factors.tobytes() == first.user_factors.tobytes()
    assert again.seen_indices.tobytes() == first.seen_indices.tobytes()
    assert freshness.with_current_items(town.bundle, town.town.lake, tables).items["is_enabled"].all()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    later=st.lists(
        st.tuples(
            st.sampled_from([*USERS[:6], "x", "y"]), st.integers(0, 27), st.sampled_from(["purchase", "impression"])
        ),
        max_size=8,
    )
)
def test_whatever_arrives_what_is_seen_is_what_the_table_says(town, later):
    town.town.events(*({"user_id": user, "item_id": f"i{item:02}", "event_type": kind} for user, item, kind in later))
    tables = town.town.derive()
    people = asked(*((user, None) for user in (*USERS[:6], "x", "y")))
    items = freshness.with_current_items(town.bundle, town.town.lake, tables)
    bundle = freshness.fold_in_new_events(items, people, town.town.lake, tables)
    known = set(bundle.items["item_id"])
    for subject, rows in town.town.lake.scan("interactions").collect().group_by("subject"):
        if subject[0] in {f"u:{user}" for user in people["user_id"]}:
            told = dict(rows.filter(pl.col("item_id").is_in(known)).select("item_id", "event_types").iter_rows())
            assert seen_of(bundle, str(subject[0])) == told


def test_a_damaged_table_is_an_error_that_names_it_and_the_cure(town):
    town.town.events({"user_id": "u01", "item_id": "i02"})
    town.town.derive()
    rows = town.town.lake.scan("interactions").collect()
    town.town.lake.append("interactions", rows.filter(pl.col("subject") == "u:u01"))
    tables = inputs.current_tables(town.town.lake)
    with pytest.raises(
        ModelError, match=r"^interactions \(version \d+ of the table\): .*twice.* Materialize inter.*inputs"
    ):
        freshness.fold_in_new_events(town.bundle, EVERYBODY, town.town.lake, tables)
