from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recoflow import schema
from recoflow.models.algorithms import item_encoder, matrix, train
from recoflow.models.algorithms.matrix import UserItems
from recoflow.models.store import bundle_store
from recoflow.models.training import cold_items, pipeline
from recoflow.settings.sections import Model
from recoflow_tests.models.conftest import NOW, catalogue, environment, tasteful

ALS = Model(algorithm="als", factors=16)
NOBODY = pl.DataFrame(schema=schema.IDENTITY)


def described(items: list[str], *, is_telling: bool = True, tastes: int = 6) -> pl.DataFrame:
    """ITEMS whose category is their taste in `tasteful`, or a letter that has nothing to do with it."""
    rng = np.random.default_rng(7)
    told = [int(item[1:]) % tastes for item in items]
    drawn = [int(each) for each in rng.integers(0, tastes, len(items))]
    attributes = [
        json.dumps({"categories": [f"taste {number}"], "url": f"https://lorem.example/{item}"})
        for item, number in zip(items, told if is_telling else drawn, strict=True)
    ]
    return catalogue(*items).with_columns(pl.Series("attributes", attributes))


@pytest.fixture(scope="module")
def data() -> UserItems:
    return matrix.from_interactions(tasteful(2))


def test_tokens_are_values_lists_and_words_but_no_addresses_and_no_numbers() -> None:
    found = item_encoder.tokens(
        "article",
        {
            "title": "Élections: What Now?",
            "categories": ["Politics", "EU"],
            "premium": True,
            "author": {"name": "Ada"},
            "url": "https://lorem.example/a",
            "price": 3.5,
            "nothing": None,
        },
    )
    assert found == {
        "item_type=article",
        "title=élections: what now?",
        "title~élections",
        "title~what",
        "title~now",
        "categories=politics",
        "categories=eu",
        "premium=True",
        "author.name=ada",
    }


def test_factors_that_are_a_sum_over_features_are_found_for_new_items() -> None:
    rng = np.random.default_rng(1)
    truth = rng.standard_normal((6, 4)).astype(np.float32)
    items = described([f"i{number:03}" for number in range(120)])
    factors = truth[np.arange(120) % 6] + rng.standard_normal((120, 4)).astype(np.float32) * 0.05
    encoder = item_encoder.fit_item_encoder(items, factors, np.full(120, 50, np.float32), 1)
    assert encoder is not None
    encoded = encoder.encode(described(["i200", "i201"]))
    np.testing.assert_allclose(encoded, truth[[200 % 6, 201 % 6]], atol=0.3)
    assert encoded.dtype == np.float32


def test_an_item_of_which_nothing_is_known_has_no_factors() -> None:
    items = described([f"i{number:03}" for number in range(60)])
    encoder = item_encoder.fit_item_encoder(items, np.ones((60, 3), np.float32), np.ones(60, np.float32), 1)
    assert encoder is not None
    assert not encoder.encode(catalogue("new")).any()


def test_attributes_that_no_two_items_share_or_all_share_make_no_encoder() -> None:
    items = catalogue("a", "b", "c").with_columns(pl.Series("attributes", ['{"x":"1"}', '{"x":"2"}', '{"x":"3"}']))
    assert item_encoder.fit_item_encoder(items, np.ones((3, 2), np.float32), np.ones(3, np.float32), 1) is None


def test_values_that_differ_by_a_zero_at_their_end_are_one_feature_once() -> None:
    """numpy forgets the zero, and a bundle with a feature twice could not be saved."""
    attributes = [json.dumps({"tags": [f"{letter}{end}"]}) for letter in "ab" for end in ("", "\0") for _ in range(9)]
    items = catalogue(*(f"i{number:02}" for number in range(36))).with_columns(pl.Series("attributes", attributes))
    encoder = item_encoder.fit_item_encoder(items, np.eye(36, 3, dtype=np.float32), np.ones(36, np.float32), 1)
    assert encoder is not None
    assert encoder.features.tolist() == ["tags=a", "tags=b"]


def test_hidden_items_are_found_by_telling_attributes(data: UserItems) -> None:
    found = cold_items.measure_cold_items(train.train(data, ALS, 1), data, described(data.items.tolist()), 1)
    assert found is not None
    assert found.encoder > 1.3 * found.random
    assert found.gain[0] > 0


def test_attributes_that_tell_nothing_are_refused_by_name(data: UserItems) -> None:
    scorer = train.train(data, ALS, 1)
    after, encoder, finding = cold_items.encode(scorer, data, described(data.items.tolist(), is_telling=False), 1)
    assert encoder is None
    assert after is scorer
    assert (finding.check, finding.passed, finding.severity) == (cold_items.CHECK, False, "warn")


@pytest.mark.parametrize("algorithm", ["ease", "spectral", "popular"])
def test_models_without_trained_factors_wait_for_interactions(data: UserItems, algorithm: str) -> None:
    scorer = train.train(data, Model(algorithm=algorithm), 1)  # type: ignore[arg-type]
    after, encoder, finding = cold_items.encode(scorer, data, described(data.items.tolist()), 1)
    assert (after, encoder) == (scorer, None)
    assert finding.passed


def test_the_news_of_today_is_ranked_among_its_like_and_the_encoder_travels_in_the_bundle(tmp_path: Path) -> None:
    world = tasteful(2)
    items = described([*world["item_id"].unique().sort().to_list(), "i900", "i901"])
    trained = pipeline.train_environment(
        world, items, NOBODY, environment(models={"als": {"algorithm": "als", "factors": 16}}), None, NOW, {}
    )
    made = trained.bundle
    assert made is not None
    assert made.item_encoder is not None
    (finding,) = [each for each in trained.findings if each.check == cold_items.CHECK]
    assert finding.passed
    new = made.items["item_id"].is_in(["i900", "i901"]).arg_true().to_list()
    assert made.item_factors[new].any(1).all()
    # 900 is of taste 0, 901 of taste 1: users of a taste (their number modulo 6) prefer their own.
    scores = made.scorer.score(np.arange(len(made.subjects)))[:, new]
    taste = np.array([int(subject[2:]) % 6 for subject in made.subjects])
    assert (scores[taste == 0][:, 0] > scores[taste == 0][:, 1]).mean() > 0.8
    assert (scores[taste == 1][:, 0] < scores[taste == 1][:, 1]).mean() > 0.8
    folder = tmp_path / made.version
    bundle_store.save_bundle(made, folder)
    loaded = bundle_store.load_bundle(folder).item_encoder
    assert loaded is not None
    np.testing.assert_array_equal(loaded.encode(items.tail(5)), made.item_encoder.encode(items.tail(5)))
