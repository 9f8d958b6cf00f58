from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from recoflow.models.evaluation.evaluate import Evaluation
from recoflow.models.training import promotion_gate
from recoflow.models.training.promotion_gate import Candidate, Decision


def judged(ndcg: float, coverage: float = 0.5, personalization: float = 0.5) -> Evaluation:
    values = {"ndcg": ndcg, "coverage": coverage, "personalization": personalization}
    return Evaluation(10, values, (ndcg, ndcg), {}, 100, np.full(100, ndcg))


def decide(*candidates: Candidate, champion: Candidate | None = None) -> Decision:
    return promotion_gate.decide(
        candidates, judged(0.01), champion, margin=0.05, seed=1, min_coverage=0.02, min_personalization=0.05
    )


def failed(decision: Decision) -> set[str]:
    return {finding.check for finding in decision.findings if not finding.passed}


GOOD = Candidate("als", "als", judged(0.2), is_constant=False)
GOOD_ENOUGH = Candidate("old", "als", judged(0.1), is_constant=False)
POPULAR = Candidate("popular", "popular", judged(0.1, 0.001, 0.0), is_constant=False)
FALLBACK = dataclasses.replace(POPULAR, is_fallback=True)
DEGENERATE = [
    (Candidate("als", "als", None, is_constant=False), "factors_finite"),
    (Candidate("als", "als", judged(0.5), is_constant=True), "scores_not_constant"),
    (Candidate("als", "als", judged(0.5, personalization=0.04), is_constant=False), "lists_are_personal"),
    (Candidate("als", "als", judged(0.5, coverage=0.01), is_constant=False), "coverage"),
]


def test_the_best_sound_candidate_is_promoted() -> None:
    decision = decide(POPULAR, GOOD)
    assert (decision.chosen, decision.is_promoted) == ("als", True)
    assert not failed(decision)


def test_popularity_may_win_and_needs_no_coverage() -> None:
    decision = decide(Candidate("als", "als", judged(0.05), is_constant=False), POPULAR)
    assert (decision.chosen, decision.is_promoted) == ("popular", True)


@pytest.mark.parametrize(("bad", "check"), DEGENERATE)
def test_a_degenerate_candidate_is_refused_by_name_and_the_next_is_taken(bad: Candidate, check: str) -> None:
    decision = decide(bad, POPULAR)
    assert decision.chosen == "popular"
    assert failed(decision) == {check}
    assert decision.is_promoted
    alone = decide(bad)
    assert (alone.chosen, alone.is_promoted, failed(alone)) == (None, False, {check})


@pytest.mark.parametrize(("bad", "check"), DEGENERATE)
def test_the_fallback_does_not_replace_a_personal_model_when_all_others_are_degenerate(
    bad: Candidate, check: str
) -> None:
    refused = decide(bad, FALLBACK, champion=GOOD_ENOUGH)
    assert (refused.chosen, refused.is_promoted, failed(refused)) == ("popular", False, {check})
    assert decide(bad, FALLBACK).is_promoted, "there is nothing better to serve yet"
    assert decide(bad, FALLBACK, champion=FALLBACK).is_promoted
    assert decide(bad, GOOD, FALLBACK, champion=GOOD_ENOUGH).is_promoted, "another one is sound"
    assert decide(bad, POPULAR, champion=GOOD_ENOUGH).is_promoted, "the environment names popular"


def test_nothing_is_held_against_a_champion_that_cannot_be_judged() -> None:
    unknown = Candidate("als", "als", None, is_constant=False)
    decision = decide(GOOD, champion=unknown)
    assert (decision.is_promoted, failed(decision)) == (False, {"not_worse_than_champion"})


def test_a_model_no_better_than_random_is_not_promoted() -> None:
    decision = decide(Candidate("als", "als", judged(0.01), is_constant=False))
    assert failed(decision) == {"better_than_random"}
    assert not decision.is_promoted


@pytest.mark.parametrize(("champion", "is_promoted"), [(0.15, True), (0.21, True), (0.2106, False), (0.4, False)])
def test_a_challenger_may_lack_the_margin_and_no_more(champion: float, is_promoted: bool) -> None:
    decision = decide(GOOD, champion=Candidate("old", "als", judged(champion), is_constant=False))
    assert decision.is_promoted is is_promoted
    assert failed(decision) == (set() if is_promoted else {"not_worse_than_champion"})


def test_the_first_of_equals_is_chosen() -> None:
    twin = Candidate("twin", "als", judged(0.2), is_constant=False)
    assert decide(GOOD, twin).chosen == "als"
    assert decide(twin, GOOD).chosen == "twin"


def of_users(name: str, ndcg: list[float]) -> Candidate:
    values = np.array(ndcg)
    evaluation = dataclasses.replace(judged(float(values.mean())), users=len(values), ndcg=values)
    return Candidate(name, "als", evaluation, is_constant=False)


def test_challenger_and_champion_are_compared_user_by_user() -> None:
    champion = of_users("old", [0.0, 0.2, 0.6, 1.0] * 50)
    always_a_little_better = of_users("new", [0.01, 0.21, 0.61, 1.01] * 50)
    as_good_on_the_whole = of_users("new", [1.0, 0.6, 0.2, 0.0] * 50)

    (sure,) = [f for f in decide(always_a_little_better, champion=champion).findings if "champion" in f.check]
    assert sure.metadata["difference"] == pytest.approx(0.01)
    assert sure.metadata["difference_interval"] == pytest.approx([0.01, 0.01]), "how users differ is no doubt about it"
    assert "ruled out" not in sure.message

    first, again = (decide(as_good_on_the_whole, champion=champion) for _ in range(2))
    (unsure,) = [f for f in first.findings if "champion" in f.check]
    low, high = unsure.metadata["difference_interval"]
    assert low < -0.05 * 0.45 < 0 < high
    assert unsure.passed
    assert "could not be ruled out" in unsure.message
    assert first == again, "the same seed gives the same interval"


@pytest.mark.parametrize(("lack", "is_chance"), [([0.1] * 4, False), ([0.9, -0.5, 0.4, -0.4], True)])
def test_a_challenger_that_lacks_more_is_refused_and_told_how_sure_that_is(lack: list[float], is_chance: bool) -> None:
    champion = np.array([0.5, 0.5, 0.5, 0.5] * 10)
    decision = decide(of_users("new", list(champion - np.array(lack * 10))), champion=of_users("old", list(champion)))
    (refusal,) = [f for f in decision.findings if not f.passed]
    assert refusal.check == "not_worse_than_champion"
    assert ("leaves room for chance" in refusal.message) is is_chance
