"""Warm starts: the training on everything continues from item factors that are there already.

What belongs here: which factors a training may continue from, with ids mapped. What does not: the sweeps (als).

They are those of the model in service, which knows all but the last day, or else those of the same model on the
hold-out. Candidates are judged on a hold-out that the model in service knows, so they never start warm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recoflow.models.algorithms.matrix import Matrix
from recoflow.models.algorithms.scorer import Scorer
from recoflow.models.store.bundle import Bundle

WITHOUT_FACTORS: Final = frozenset({"ease", "item_neighbours"})
HOLD_OUT: Final = "hold-out"
LINEAGE: Final = 2  # times the cold sweeps, after which one trains anew: a lineage overfits as one long training does


@dataclass(frozen=True)
class Start:
    """A trained model to continue from.

    Attributes:
        version: of the bundle, or `HOLD_OUT`.
        items: ids, sorted [items].
        factors: float32 [items × f], row i ↔ items[i].
        model: what the manifest says of it: algorithm, parameters, course.
        encoders: how many columns each of its encoders gives, in order.
        otherwise: where to continue from if a training cannot from here.
    """

    version: str
    items: NDArray[np.str_]
    factors: Matrix
    model: Mapping[str, Any]
    encoders: tuple[int, ...]
    otherwise: Start | None = None

    @classmethod
    def of(cls, bundle: Bundle) -> Start:
        """The model of a bundle."""
        columns = tuple(encoder.columns for encoder in bundle.scorer.encoders)
        items = np.array(bundle.items["item_id"].to_list(), np.str_)
        return cls(bundle.version, items, bundle.item_factors, bundle.manifest["model"], columns)

    @classmethod
    def of_hold_out(cls, scorer: Scorer, algorithm: str, items: NDArray[np.str_]) -> Start:
        """The same model as a training on everything is about to learn, from its judgement on the hold-out."""
        model = {"algorithm": algorithm, "parameters": scorer.parameters, "course": scorer.course}
        return cls(HOLD_OUT, items, scorer.item_factors, model, tuple(each.columns for each in scorer.encoders))

    def component(self, name: str) -> Start | None:
        """The named component of a blend, or None: it is not there, has weight 0, or is a blend itself."""
        own = self._component(name)
        other = None if self.otherwise is None else self.otherwise.component(name)
        return other if own is None else replace(own, otherwise=other)

    def fitting(self, algorithm: str, parameters: Mapping[str, Any]) -> Start | None:
        """Where a training of these settings may continue from, None when it starts from nothing."""
        if self.fits(algorithm, parameters):
            return self
        return None if self.otherwise is None else self.otherwise.fitting(algorithm, parameters)

    def fits(self, algorithm: str, parameters: Mapping[str, Any]) -> bool:
        """Whether a training may continue: same algorithm and settings, and not too many sweeps since a cold start."""
        if self.model["algorithm"] != algorithm or "sweeps_since_cold" not in self.model.get("course", {}):
            return False
        ours, theirs = ({**settings, "iterations": 0} for settings in (parameters, self.model["parameters"]))
        return ours == theirs and self.model["course"]["sweeps_since_cold"] < LINEAGE * parameters["iterations"]

    def _component(self, name: str) -> Start | None:
        encoder = column = 0
        parameters = self.model["parameters"]
        for other, settings in parameters.get("components", {}).items():
            if not parameters["weights"][other] or settings["algorithm"] in WITHOUT_FACTORS:
                continue
            if settings["algorithm"] == "blend":
                return None
            width = self.encoders[encoder]
            if other == name:
                algorithm = settings["algorithm"]
                parameters = {key: value for key, value in settings.items() if key != "algorithm"}
                course = self.model.get("course", {}).get(name, {})
                model = {"algorithm": algorithm, "parameters": parameters, "course": course}
                return Start(self.version, self.items, self.factors[:, column : column + width], model, (width,))
            encoder, column = encoder + 1, column + width
        return None

    def factors_of(self, items: NDArray[np.str_]) -> Matrix:
        """The factors of `items`, zeros for those that the model does not know, float32 [len(items) × f]."""
        place = np.minimum(np.searchsorted(self.items, items), len(self.items) - 1)
        is_known = self.items[place] == items
        found: Matrix = np.where(is_known[:, None], self.factors[place], np.float32(0))
        return found
