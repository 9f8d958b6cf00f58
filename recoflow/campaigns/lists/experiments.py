"""A/B experiments: who gets which arm, what it changes for a row, and whether the arms are as large as they should be.

What belongs here: assignment and its check. What does not: the settings and what must fit together among them
(`campaign_settings`), and how a list is ranked.

An arm is a pure function of the experiment's name and the person, so that it stays the same from campaign to campaign
and needs no memory. The name salts the hash, so that two experiments divide people independently of each other
(Kohavi, Tang, Xu, "Trustworthy Online Controlled Experiments", 2020, ch. 14; sample ratio mismatch: ch. 21).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from recoflow.formats.fields import BLANK
from recoflow.quality.finding import Finding

if TYPE_CHECKING:
    from recoflow.settings.campaign_settings import Experiment
    from recoflow.settings.environment import Campaigns

CHECK: Final = "experiments_balanced"
CHECKS: Final = {CHECK: "Every experiment runs, and its arms have the shares of people that their weights say."}
SIGNIFICANT: Final = 0.001  # of the chi-square test; so small because every campaign is tested
LEAST_EXPECTED: Final = 5  # people in the smallest arm for the test to mean anything (Cochran 1954)
PERSON: Final = pl.coalesce("user_id", "device_id")  # whoever is assigned


def suspended(campaigns: Campaigns, unsupported: Mapping[str, str], algorithms: Collection[str]) -> dict[str, str]:
    """Experiments that do not take place in a campaign, and why.

    When one arm cannot be answered nobody is assigned: without it the others would be compared with nothing, and its
    people would get what they were not meant to.

    Args:
        campaigns: of the environment.
        unsupported: configuration → why it cannot be used.
        algorithms: what the model at hand can do.
    """
    reasons = {}
    for name, experiment in campaigns.experiments.items():
        for arm, settings in experiment.arms.items():
            if settings.configuration in unsupported:
                reasons[name] = f"arm '{arm}': {unsupported[str(settings.configuration)]}"
            elif settings.model is not None and settings.model not in algorithms:
                reasons[name] = f"arm '{arm}': its model '{settings.model}' is not in service"
    return reasons


def assign(rows: pl.DataFrame, campaigns: Campaigns, suspended: Collection[str]) -> pl.DataFrame:
    """Give the rows that take part in an experiment their arms.

    A row takes part when its list does and it names no configuration itself.

    Args:
        rows: with user_id, device_id, list_name and the configuration_id that they name.
        campaigns: of the environment.
        suspended: experiments that do not take place.

    Returns:
        The rows with the arm's configuration_id, `version` (the arm, else the environment's) and `algorithm` (that the
        arm ranks by; null: the configuration's own).
    """
    arms: list[tuple[str, str | None, str | None]] = []
    found = np.full(len(rows), -1, np.int64)
    for name, experiment in campaigns.experiments.items():
        if name in suspended:
            continue
        takes_part = rows.select(_takes_part(experiment).fill_null(value=False)).to_series().to_numpy()
        people = rows.filter(takes_part).select(PERSON).to_series()
        found[takes_part] = arms_of(name, experiment, people) + len(arms)
        arms += [(arm, each.configuration, each.model) for arm, each in experiment.arms.items()]
    arms.append((campaigns.version, None, None))  # where -1 points
    given = pl.DataFrame(arms, schema=dict.fromkeys(("version", "arms_own", "algorithm"), pl.String), orient="row")
    of_rows = given[np.where(found < 0, len(arms) - 1, found)]
    return (
        pl.concat([rows, of_rows], how="horizontal")
        .with_columns(pl.coalesce("configuration_id", "arms_own").alias("configuration_id"))
        .drop("arms_own")
    )


def arms_of(name: str, experiment: Experiment, people: pl.Series) -> npt.NDArray[np.int64]:
    """The arm of each person, a number in the YAML's order of arms; no person may be null."""
    from recoflow.compute import xxh64  # noqa: PLC0415 - loads numba

    hashes = xxh64.of_texts(pl.select(pl.lit(f"{name}\0") + people).to_series())
    places = (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53  # of the upper 53 bits: in [0, 1), not rounded
    return np.searchsorted(np.cumsum(_shares(experiment))[:-1], places, side="right").astype(np.int64)


def balance(requests: pl.DataFrame, campaigns: Campaigns, suspended: Mapping[str, str]) -> Finding:
    """Judge the sizes of the arms in one campaign.

    A ratio that the weights do not explain says that the campaign's people were chosen by something that has to do with
    the arm, and that the arms must not be compared. It is a warning, because the lists are right all the same, and the
    same people give the same ratio in every campaign.

    Args:
        requests: answered rows, with user_id, device_id and version.
        campaigns: of the environment.
        suspended: experiments that did not take place, and why.
    """
    people = requests.select(PERSON.str.strip_chars(BLANK).alias("person"), "version").unique()
    counts = dict(people.group_by("version").len().iter_rows())
    shown, problems = [], [f"{name} did not take place: {reason}" for name, reason in suspended.items()]
    for name, experiment in campaigns.experiments.items():
        if name in suspended:
            continue
        observed = np.array([counts.get(arm, 0) for arm in experiment.arms])
        expected = _shares(experiment) * observed.sum()
        chance = _chance(observed, expected)
        shown += [
            {"experiment": name, "arm": arm, "people": int(people), "expected": round(float(share), 1), "p": chance}
            for arm, people, share in zip(experiment.arms, observed, expected, strict=True)
        ]
        if chance is not None and chance < SIGNIFICANT:
            sizes = ", ".join(f"{arm} {people}" for arm, people in zip(experiment.arms, observed, strict=True))
            problems.append(f"{name} has {sizes} people (p = {chance:.1e}); do not compare its arms in this campaign")
    if problems:
        return Finding(CHECK, passed=False, message="; ".join(problems), severity="warn", metadata={"arms": shown})
    message = CHECKS[CHECK] if campaigns.experiments else "No experiment is set up."
    return Finding(CHECK, passed=True, message=message, severity="warn", metadata={"arms": shown})


def _takes_part(experiment: Experiment) -> pl.Expr:
    is_free = pl.col("configuration_id").is_null() & PERSON.is_not_null()
    return (
        is_free & pl.col("list_name").str.strip_chars(BLANK).is_in(list(experiment.lists))
        if experiment.lists
        else is_free
    )


def _shares(experiment: Experiment) -> npt.NDArray[np.float64]:
    weights = np.array([arm.weight for arm in experiment.arms.values()], np.float64)
    shares: npt.NDArray[np.float64] = weights / weights.sum()
    return shares


def _chance(observed: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float | None:
    """Of a deviation at least as large (Pearson's chi-square); None when there are too few people or arms to tell."""
    from scipy.special import chdtrc  # noqa: PLC0415

    if len(observed) < 2 or expected.min() < LEAST_EXPECTED:
        return None
    return float(chdtrc(len(observed) - 1, ((observed - expected) ** 2 / expected).sum()))
