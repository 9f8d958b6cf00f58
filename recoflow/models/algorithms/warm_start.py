"""Warm starts: a training continues from item factors that exist already.

Those are the factors of the model in service, which knows all but the last day, or else of the same model on the
hold-out. Candidates are judged on a hold-out that the model in service knows, so they never start warm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recoflow.models.algorithms.encoder import UserEncoder
from recoflow.models.algorithms.matrix import Matrix

WITHOUT_FACTORS: Final = frozenset({"ease", "item_neighbours"})
LINEAGE: Final = 2  # times the cold sweeps, after which one trains anew: a lineage overfits as one long training does


@dataclass(frozen=True)
class WarmStart:
    """A trained model to continue from.

    Attributes:
        version: of its bundle, or another name for the training log.
        items: ids, sorted [items].
        factors: float32 [items × f], row i ↔ items[i].
        model: as in a manifest: algorithm, parameters, course.
        encoders: of its factors, in order.
    """

    version: str
    items: NDArray[np.str_]
    factors: Matrix
    model: Mapping[str, Any]
    encoders: tuple[UserEncoder, ...]

    def component(self, name: str) -> WarmStart | None:
        """The named component of a blend; None if it is missing, has weight 0, or is a blend itself."""
        encoder = column = 0
        parameters = self.model["parameters"]
        for other, settings in parameters.get("components", {}).items():
            if not parameters["weights"][other] or settings["algorithm"] in WITHOUT_FACTORS:
                continue
            if settings["algorithm"] == "blend":
                return None
            width = self.encoders[encoder].columns
            if other == name:
                own = {key: value for key, value in settings.items() if key != "algorithm"}
                course = self.model.get("course", {}).get(name, {})
                model = {"algorithm": settings["algorithm"], "parameters": own, "course": course}
                factors = self.factors[:, column : column + width]
                return WarmStart(self.version, self.items, factors, model, self.encoders[encoder : encoder + 1])
            encoder, column = encoder + 1, column + width
        return None

    def fits(self, algorithm: str, parameters: Mapping[str, Any]) -> bool:
        """Whether a training may continue: same algorithm and settings, and not too many sweeps since a cold start."""
        if self.model["algorithm"] != algorithm or "sweeps_since_cold" not in self.model.get("course", {}):
            return False
        ours, theirs = ({**settings, "iterations": 0} for settings in (parameters, self.model["parameters"]))
        return ours == theirs and self.model["course"]["sweeps_since_cold"] < LINEAGE * parameters["iterations"]

    def factors_of(self, items: NDArray[np.str_]) -> Matrix:
        """The factors of `items`, zeros for those that the model does not know, float32 [len(items) × f]."""
        place = np.minimum(np.searchsorted(self.items, items), len(self.items) - 1)
        is_known = self.items[place] == items
        factors: Matrix = np.where(is_known[:, None], self.factors[place], np.float32(0))
        return factors


def components(starts: Iterable[WarmStart], name: str) -> tuple[WarmStart, ...]:
    """The named component of each of these models, as far as they have one."""
    return tuple(part for start in starts if (part := start.component(name)) is not None)


def first_fitting(starts: Iterable[WarmStart], algorithm: str, parameters: Mapping[str, Any]) -> WarmStart | None:
    """The first model that a training with these settings may continue from; None for a cold start."""
    return next((start for start in starts if start.fits(algorithm, parameters)), None)
