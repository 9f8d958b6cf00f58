from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from recoflow import schema
from recoflow.errors import ModelError
from recoflow.models.evaluation import tables
from recoflow.models.store import bundle, bundle_store
from recoflow.models.training import pipeline
from recoflow.models.training.pipeline import TrainingResult
from recoflow.settings.environment import Campaigns
from recoflow_tests.models.conftest import NOW, catalogue, environment, tasteful

pytestmark = pytest.mark.slow

NOBODY = pl.DataFrame(schema=schema.IDENTITY)
NOTHING = pl.DataFrame(schema=schema.ITEMS)


def run(frame: pl.DataFrame, champion: bundle.Bundle | None = None, **training: object) -> TrainingResult:
    return pipeline.train_environment(
        frame, NOTHING, NOBODY, environment(**training), champion, NOW, {"interactions": 1}
    )


def test_als_learns_tastes_beats_popularity_and_random_and_is_promoted(training: TrainingResult) -> None:
    ndcg = dict(training.metrics.select("model", "ndcg").iter_rows())
    assert ndcg["als"] > 2 * ndcg["popular"] > 0
    assert ndcg["als"] > 2 * ndcg["random"]
    assert training.decision.chosen == "als"
    assert training.decision.is_promoted
    assert {finding.check for finding in training.findings} == set(pipeline.CHECKS)


def test_the_manifest_tells_how_the_model_came_to_be(training: TrainingResult) -> None:
    assert training.bundle is not None
    manifest = training.bundle.manifest
    assert manifest["tables"] == {"interactions": 7}
    assert manifest["seed"] == 42
    assert manifest["model"]["algorithm"] == "als"
    assert manifest["model"]["parameters"]["factors"] > 0
    assert training.bundle.version.startswith("20260301T000000Z-")


def test_the_same_inputs_give_the_same_bytes(world: pl.DataFrame, training: TrainingResult) -> None:
    identity = pl.DataFrame({"device_id": ["d1"], "user_id": ["0001"]}, schema=schema.IDENTITY)
    shuffled = world.sample(fraction=1, shuffle=True, seed=1)
    again = pipeline.train_environment(
        shuffled, catalogue("i000", "new-1"), identity, environment(), None, NOW, {"interactions": 7}
    )
    assert training.bundle is not None
    assert again.bundle is not None
    assert again.bundle.version == training.bundle.version
    np.testing.assert_array_equal(again.bundle.user_factors, training.bundle.user_factors)


def test_the_same_recipe_in_service_is_no_obstacle(world: pl.DataFrame, training: TrainingResult) -> None:
    later = pipeline.train_environment(
        world, NOTHING, NOBODY, environment(), training.bundle, NOW + timedelta(days=1), {"interactions": 8}
    )
    assert later.decision.is_promoted
    assert later.bundle is not None
    assert training.bundle is not None
    assert later.bundle.version > training.bundle.version


def test_a_worse_challenger_is_refused_by_name(world: pl.DataFrame, training: TrainingResult) -> None:
    weak = run(world, training.bundle, models={"flat": {"algorithm": "newest"}})
    failed = {finding.check for finding in weak.findings if not finding.passed}
    assert failed == {"not_worse_than_champion"}
    assert not weak.decision.is_promoted


def test_where_nobody_has_a_taste_popularity_serves() -> None:
    rng = np.random.default_rng(4)
    frame = tasteful(4)
    shared = np.minimum(rng.geometric(0.08, frame.height) - 1, 119)
    frame = frame.with_columns(pl.Series("item_id", [f"i{number:03}" for number in shared]))
    result = run(frame.unique(["subject", "item_id"]))
    assert result.decision.chosen == "popular"
    assert result.decision.is_promoted
    assert result.bundle is not None
    assert result.bundle.user_factors.shape[1] == 1
    np.testing.assert_array_equal(result.bundle.item_factors[:, 0], result.bundle.popular)


def test_a_log_of_one_moment_still_trains(world: pl.DataFrame) -> None:
    at_once = world.with_columns(pl.lit(NOW).cast(schema.UTC_TIME).alias(name) for name in ("first_at", "last_at"))
    result = run(at_once)
    assert result.decision.is_promoted
    (finding,) = [each for each in result.findings if each.check == "split_does_not_leak"]
    assert "leave_last_out" in finding.message


def test_consumed_items_and_ids_survive_though_their_weight_does_not_train(world: pl.DataFrame) -> None:
    silent = world.head(1).with_columns(
        pl.lit("u:zzz").alias("subject"), pl.lit("zzz").alias("item_id"), pl.lit(-1.0).alias("weight")
    )
    made = run(pl.concat([world, silent]), models={"popular": {"algorithm": "popular"}}).bundle
    assert made is not None
    row = np.searchsorted(made.subjects, "u:zzz")
    seen = made.seen_indices[made.seen_indptr[row] : made.seen_indptr[row + 1]]
    assert [made.items["item_id"][int(item)] for item in seen] == ["zzz"]


@pytest.mark.parametrize("algorithm", ["spectral", "ease", "blend"])
def test_models_with_a_similarity_matrix_keep_their_scores_on_disk(
    world: pl.DataFrame, tmp_path: Path, algorithm: str
) -> None:
    made = run(world, models={"only": {"algorithm": algorithm}}).bundle
    assert made is not None
    folder = tmp_path / made.version
    bundle_store.save_bundle(made, folder)
    loaded = bundle_store.load_bundle(folder)
    rows = np.arange(50)
    np.testing.assert_array_equal(loaded.scorer.score(rows), made.scorer.score(rows))
    history = loaded.scorer.history
    assert made.manifest["model"]["name"] == "popular" or history is not None


def test_models_that_configurations_name_are_trained_beside_the_champion(world: pl.DataFrame) -> None:
    models = {"als": {"algorithm": "als"}, "near": {"algorithm": "item_neighbours"}, "flat": {"algorithm": "newest"}}
    configurations = {"c": {"algorithm": "near"}, "p": {"algorithm": "popular"}, "a": {"algorithm": "als"}}
    settings = environment(models=models).model_copy(
        update={"campaigns": Campaigns.model_validate({"configurations": configurations})}
    )
    result = pipeline.train_environment(world, NOTHING, NOBODY, settings, None, NOW, {})
    assert result.bundle is not None
    others = {"als", "near"} - {result.decision.chosen}
    assert set(result.bundle.alternatives) == others
    for scorer in result.bundle.alternatives.values():
        assert scorer.shape == (len(result.bundle.subjects), result.bundle.items.height)


def test_a_named_model_that_tells_nothing_apart_is_left_out_and_said(world: pl.DataFrame) -> None:
    weak = {"algorithm": "als", "factors": 8, "regularization": 1e30}
    settings = environment(models={"als": {"algorithm": "als"}, "weak": weak}).model_copy(
        update={"campaigns": Campaigns.model_validate({"configurations": {"c": {"algorithm": "weak"}}})}
    )
    result = pipeline.train_environment(world, NOTHING, NOBODY, settings, None, NOW, {})
    (finding,) = [each for each in result.findings if each.check == "named_models_sound"]
    assert not finding.passed
    assert "weak cannot tell items apart" in finding.message
    assert result.decision.is_promoted
    assert result.bundle is not None
    assert result.bundle.alternatives == {}


def test_what_is_trending_is_what_was_read_last(world: pl.DataFrame) -> None:
    late = world.filter(pl.col("last_at") > NOW - timedelta(days=3))
    crowd = [late.with_columns(pl.format("u:late-{}-{}", pl.lit(n), "subject").alias("subject")) for n in range(20)]
    result = run(pl.concat([world, *crowd]), models={"popular": {"algorithm": "popular"}})
    assert result.bundle is not None
    best = result.bundle.items["item_id"].gather(np.argsort(-result.bundle.trending)[:10].tolist())
    assert set(best) <= set(late["item_id"])


def test_no_positive_weight_is_an_error_with_a_cure(world: pl.DataFrame) -> None:
    with pytest.raises(ModelError, match="no positive weight"):
        run(world.with_columns(pl.lit(0.0).alias("weight")))


def test_damaged_interactions_are_an_error(world: pl.DataFrame) -> None:
    with pytest.raises(ModelError, match="pair twice"):
        run(pl.concat([world, world]))


def test_a_bundle_folds_in_users_it_never_saw(training: TrainingResult) -> None:
    assert training.bundle is not None
    model = training.bundle
    row = int(np.argmax(np.diff(model.seen_indptr)))
    seen = model.seen_indices[model.seen_indptr[row] : model.seen_indptr[row + 1]]
    entries = (np.full(len(seen), 1.5, np.float32), (np.zeros(len(seen), int), seen))
    history = sparse.csr_matrix(entries, shape=(1, model.items.height))
    folded = model.scorer.fold_in(history)
    old, new = model.scorer.score(np.array([row]))[0], folded.score(np.array([0]))[0]
    assert np.corrcoef(old, new)[0, 1] > 0.9


def test_every_candidate_has_a_row_of_metrics(training: TrainingResult) -> None:
    assert training.metrics.schema == tables.METRICS
    assert set(training.metrics["model"]) == {"als", "popular", "random"}


def test_every_judged_model_has_a_row_for_each_kind_of_user(training: TrainingResult) -> None:
    assert training.segments.schema == tables.SEGMENTS
    users = training.segments.group_by("model").agg(pl.col("users").sum())
    assert dict(users.iter_rows()) == dict(training.metrics.select("model", "users").iter_rows())
    assert training.bundle is not None
    assert training.bundle.manifest["segments"] == training.segments.to_dicts()
