from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from recoflow.errors import ConfigurationError
from recoflow.models.algorithms import matrix
from recoflow.models.evaluation import holdout
from recoflow.models.evaluation.holdout import HoldOut
from recoflow.models.training import pipeline, search, tune
from recoflow.models.training.search import Result
from recoflow.settings.sections import Model
from recoflow_tests.models.conftest import catalogue, environment, tasteful

pytestmark = pytest.mark.slow

BAD = Model(algorithm="item_neighbours", neighbours=1)


@pytest.fixture(scope="module")
def hold() -> HoldOut:
    return pipeline.hold_out(tasteful(3), catalogue(), environment())


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "tuning/lorem.journal"


def found(hold: HoldOut, journal: Path, model: Model = BAD, trials: int = 8, **options: object) -> Result:
    return search.search_settings("mine", model, hold, 5, journal, trials=trials, **options)


def test_a_search_finds_better_settings_than_a_bad_start_within_a_few_trials(hold: HoldOut, journal: Path) -> None:
    result = found(hold, journal)
    assert result.before == {"neighbours": 1}
    assert result.is_better
    assert result.ndcg_after > 1.2 * result.ndcg_before
    assert (result.trials, result.is_interrupted) == (8, False)


@pytest.mark.parametrize("model", [BAD, Model(algorithm="als", factors=2, iterations=1, alpha=1, regularization=0.5)])
def test_so_many_trials_give_the_same_settings_each_time(hold: HoldOut, tmp_path: Path, model: Model) -> None:
    first, second = (found(hold, tmp_path / name, model, trials=4) for name in ("first", "second"))
    assert first == second


def test_what_is_reported_is_what_a_training_would_judge(hold: HoldOut, journal: Path) -> None:
    result = found(hold, journal)
    assert tune.ndcg(BAD, hold, 5) == result.ndcg_before
    assert tune.ndcg(BAD.model_copy(update=result.after), hold, 5) == result.ndcg_after


def test_settings_that_nothing_beats_stay(hold: HoldOut, tmp_path: Path) -> None:
    best = found(hold, tmp_path / "first", trials=12)
    good = BAD.model_copy(update=best.after)
    again = found(hold, tmp_path / "second", good, trials=1)
    assert (again.is_better, again.after, again.ndcg_after) == (False, best.after, best.ndcg_after)


def test_bad_trials_are_given_up_on_few_users(hold: HoldOut, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[int] = []
    honest = tune.ndcg

    def counted(model: Model, rung: HoldOut, seed: int) -> float:
        judged.append(rung.data.shape[0])
        return honest(model, rung, seed)

    monkeypatch.setattr(tune, "ndcg", counted)
    result = found(hold, journal, trials=12, smallest=20)
    users = hold.data.shape[0]
    assert result.given_up > 0
    assert result.given_up + result.trials == 12
    assert judged.count(users // 9) == 12
    assert judged.count(users) < 12


def test_settings_without_finite_numbers_are_given_up(hold: HoldOut, journal: Path) -> None:
    broken = Model(algorithm="bpr", regularization=1e9, iterations=20, factors=16)
    result = found(hold, journal, broken, trials=1)
    assert (result.ndcg_before, result.trials, result.given_up) == (-1, 0, 1)
    assert not result.is_better


def test_a_search_on_the_same_data_continues(hold: HoldOut, journal: Path) -> None:
    first = found(hold, journal, trials=6)
    second = found(hold, journal, trials=3)
    assert second.trials == 9
    assert second.ndcg_after >= first.ndcg_after


def test_a_search_on_other_data_begins_with_the_present_settings_and_the_best_of_the_last_one(
    hold: HoldOut, journal: Path
) -> None:
    first = found(hold, journal, trials=8)
    other = holdout.hold_out(matrix.from_interactions(tasteful(4)), 5, is_temporal=False)
    second = found(other, journal, trials=2)
    assert second.trials == 2
    assert second.after == first.after


def test_ctrl_c_keeps_what_was_found(hold: HoldOut, journal: Path) -> None:
    told: list[float] = []

    def stop(best: float) -> None:
        told.append(best)
        if len(told) == 5:
            raise KeyboardInterrupt

    result = found(hold, journal, trials=1000, on_trial=stop)
    assert result.is_interrupted
    assert result.trials == 5
    assert told == sorted(told)
    assert result.ndcg_after in {told[-1], result.ndcg_before}


def test_time_ends_a_search(hold: HoldOut, journal: Path) -> None:
    result = search.search_settings("mine", BAD, hold, 5, journal, seconds=0.2)
    assert 1 <= result.trials < 1000


def test_a_sample_of_a_hold_out_holds_whole_users_of_it(hold: HoldOut) -> None:
    some = holdout.sample(hold, 50, 1)
    assert some.data.shape == (50, hold.data.shape[1])
    rows = np.searchsorted(hold.data.subjects, some.data.subjects)
    np.testing.assert_array_equal(some.test.toarray(), hold.test[rows].toarray())
    np.testing.assert_array_equal(some.data.matrix.toarray(), hold.data.matrix[rows].toarray())
    assert set(rows[some.judged]) == set(rows) & set(hold.judged)
    assert holdout.sample(hold, 10_000, 1) is hold


def test_every_algorithm_can_be_searched_in_its_whole_space(hold: HoldOut, tmp_path: Path) -> None:
    for algorithm, space in search.SPACES.items():
        result = found(hold, tmp_path / algorithm, Model(algorithm=algorithm), trials=2)
        assert set(result.before) == {each.name for each in space}


def test_without_optuna_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigurationError, match=r'pip install "recoflow\[tune\]"'):
        search.require()
