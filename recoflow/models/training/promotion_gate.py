"""The gate: which candidate is best, and whether it may replace the model in service.

What belongs here: the rules of promotion. What does not: training, metrics, and the promotion itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recoflow.models.algorithms.train import IMPERSONAL
from recoflow.models.evaluation import metrics
from recoflow.models.evaluation.evaluate import Evaluation
from recoflow.quality.finding import Finding


@dataclass(frozen=True)
class Candidate:
    """A trained model with what its evaluation said.

    Attributes:
        name: as the environment calls it.
        algorithm: as `train` calls it.
        evaluation: None when its numbers are not finite.
        is_constant: it scores all items alike.
        is_fallback: the environment does not name it; it competes so that there is something to serve.
    """

    name: str
    algorithm: str
    evaluation: Evaluation | None
    is_constant: bool
    is_fallback: bool = False


@dataclass(frozen=True)
class Decision:
    """What the gate says: `chosen` is the best sound candidate (None when none is), promoted or not."""

    chosen: str | None
    is_promoted: bool
    findings: tuple[Finding, ...]


def degeneracy(candidate: Candidate, min_coverage: float, min_personalization: float) -> tuple[str, str] | None:
    """Why a candidate is degenerate, as (check, message), or None when it is sound.

    Popular, trending and newest show everyone the same by design, which is no flaw of theirs.
    """
    if candidate.evaluation is None:
        return "factors_finite", f"{candidate.name} has factors that are NaN or infinite; look at its settings and data"
    if candidate.is_constant:
        return "scores_not_constant", f"{candidate.name} scores all items alike; look at its settings and data"
    if candidate.algorithm in IMPERSONAL:
        return None
    own = candidate.evaluation.values["personalization"]
    if own < min_personalization:
        message = f"{candidate.name} gives everyone nearly the same list: two lists differ in {own:.2%} of their items"
        cure = "Change its settings or quality.min_personalization"
        return (
            "lists_are_personal",
            f"{message}, less than {min_personalization:.2%}: it collapsed to popularity. {cure}",
        )
    coverage = candidate.evaluation.values["coverage"]
    if coverage < min_coverage:
        message = f"{candidate.name} recommends only {coverage:.2%} of the items, less than {min_coverage:.2%}"
        return "coverage", f"{message}. Change its settings or quality.min_coverage"
    return None


def decide(
    candidates: Sequence[Candidate],
    random: Evaluation,
    champion: Candidate | None,
    *,
    margin: float,
    seed: int,
    min_coverage: float,
    min_personalization: float,
) -> Decision:
    """Choose the sound candidate with the highest NDCG (the first of equals) and hold it against random and champion.

    While a personal model serves, a training in which every named model is degenerate is refused: the fallback is for
    environments that have nothing better to serve.

    Champion and challenger are compared person by person: the mean of the differences of their NDCGs on the same
    hold-out may not be lower than minus `margin` times the champion's NDCG. The estimate itself decides, not an end of
    its interval: where a hold-out is small the lower end would refuse nearly every other model for good, while the old
    one grows stale, and the upper end would let nearly every bad one pass. The interval says how sure that is.

    Args:
        candidates: in the environment's order.
        random: the random baseline on the same split.
        champion: the model in service on the same split, None when there is none.
        margin: share of the champion's NDCG that a challenger may lack.
        seed: of the interval of their difference.
        min_coverage: least share of the items in the lists of a personal model.
        min_personalization: least share of a list that another person's list does not have, of a personal model.
    """
    flaws = {candidate.name: degeneracy(candidate, min_coverage, min_personalization) for candidate in candidates}
    sound = {c.name: c.evaluation for c in candidates if c.evaluation and flaws[c.name] is None}
    chosen = max(sound, key=lambda name: sound[name].values["ndcg"]) if sound else None
    is_hollow = all(flaws[candidate.name] is not None for candidate in candidates if not candidate.is_fallback)
    is_loss = is_hollow and champion is not None and champion.algorithm not in IMPERSONAL
    findings = [_soundness(check, flaws, is_blocking=chosen is None or is_loss) for check in SOUNDNESS]
    if chosen is not None:
        findings.append(_better_than_random(chosen, sound[chosen].values["ndcg"], random))
        findings.append(_not_worse_than_champion(chosen, sound[chosen], champion, margin, seed))
    is_promoted = chosen is not None and is_clear(findings)
    return Decision(chosen, is_promoted, tuple(findings))


SOUNDNESS = {
    "factors_finite": "all numbers of all candidates are finite",
    "scores_not_constant": "every candidate tells items apart",
    "lists_are_personal": "no personal candidate gives everyone nearly the same list",
    "coverage": "every personal candidate recommends enough of the items",
}


def is_clear(findings: Sequence[Finding]) -> bool:
    """Whether no finding blocks."""
    return all(finding.passed or finding.severity == "warn" for finding in findings)


def _soundness(check: str, flaws: Mapping[str, tuple[str, str] | None], *, is_blocking: bool) -> Finding:
    found = {name: flaw[1] for name, flaw in flaws.items() if flaw and flaw[0] == check}
    if not found:
        return Finding(check, passed=True, message=SOUNDNESS[check])
    message = "; ".join(found.values())
    return Finding(
        check,
        passed=False,
        message=message,
        severity="error" if is_blocking else "warn",
        metadata={"refused": sorted(found)},
    )


def _better_than_random(chosen: str, ndcg: float, random: Evaluation) -> Finding:
    floor = random.values["ndcg"]
    message = f"{chosen} has NDCG@{random.k} {ndcg:.4f}, random has {floor:.4f} over {random.users} users"
    if ndcg > floor:
        return Finding("better_than_random", passed=True, message=message, metadata={"ndcg": ndcg, "random": floor})
    cure = "The interactions may not tell tastes apart yet, or the hold-out is too small"
    return Finding(
        "better_than_random", passed=False, message=f"{message}. {cure}", metadata={"ndcg": ndcg, "random": floor}
    )


def _not_worse_than_champion(
    chosen: str, own: Evaluation, in_service: Candidate | None, margin: float, seed: int
) -> Finding:
    check = "not_worse_than_champion"
    if in_service is None:
        return Finding(check, passed=True, message="no model is in service yet")
    champion = in_service.evaluation
    if champion is None:
        problem = "trained on the same data, the model in service has numbers that are NaN or infinite"
        return Finding(
            check, passed=False, message=f"{problem}, so that nothing can be held against it; look at the data"
        )
    before = champion.values["ndcg"]
    difference, lack = own.values["ndcg"] - before, margin * before
    low, high = metrics.interval(own.ndcg - champion.ndcg, seed)
    metadata = {
        "ndcg": own.values["ndcg"],
        "champion": before,
        "difference": difference,
        "difference_interval": [low, high],
        "least_difference": -lack,
        "users": own.users,
    }
    message = (
        f"{chosen} has NDCG@{champion.k} {own.values['ndcg']:.4f}, the model in service {before:.4f}:"
        f" {difference:+.4f} for the same {own.users} users (95 % interval {low:+.4f} to {high:+.4f})"
    )
    if own.values["ndcg"] >= before - lack:
        doubt = f". A lack beyond the margin {margin:.0%} could not be ruled out by so few" if low < -lack else ""
        return Finding(check, passed=True, message=message + doubt, metadata=metadata)
    chance = "; the interval leaves room for chance, more users would tell" if high >= -lack else ""
    problem = f"That is worse by more than the margin {margin:.0%}{chance}, so the old model goes on"
    cure = f"{problem}; compare their settings"
    return Finding(check, passed=False, message=f"{message}. {cure}", metadata=metadata)
