"""A model with the catalogue of now, in one environment: how it reads a request and builds its lists.

Campaigns, previews, notebooks and audiences all go through this class. What does not belong here: which model, tables
and settings these are (`inputs`), and campaign folders (`service`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from recoflow.campaigns import freshness
from recoflow.campaigns.audiences import build_audiences
from recoflow.campaigns.audiences.select import AudienceItems
from recoflow.campaigns.lists import build_lists, explanations, item_filters
from recoflow.campaigns.requests import request_parser
from recoflow.compute.stage_timer import StageTimer

if TYPE_CHECKING:
    from recoflow.campaigns.audiences.staged_audiences import StagedAudiences
    from recoflow.campaigns.requests.model import Request
    from recoflow.campaigns.staging.staged import StagedLists
    from recoflow.models.store.bundle import Bundle
    from recoflow.settings.environment import Environment
    from recoflow.storage.lake.lake import Lake

FOLDING_IN = "take in what happened since the training"


class ServingModel:
    """One model version with the items of one version of the catalogue.

    Args:
        bundle: as it was trained.
        environment: its settings are those that requests are answered with.
        lake: of the environment.
        tables: name → version, for each of `freshness.TABLES`.

    Attributes:
        bundle: the bundle with these items.
    """

    def __init__(self, bundle: Bundle, environment: Environment, lake: Lake, tables: Mapping[str, int | None]) -> None:
        self._environment = environment
        self._lake = lake
        self._tables = tables
        self._model_people = len(bundle.subjects)
        self.bundle = freshness.with_current_items(bundle, lake, tables)

    def parse(self, path: Path, *, name: str, sha256: str) -> Request:
        """Read a request file; `name` is its name as uploaded, `sha256` that of its bytes."""
        return request_parser.parse_request(
            path,
            name=name,
            environment=self._environment,
            sha256=sha256,
            known_attributes=self._attributes,
            algorithms=item_filters.algorithms(self.bundle),
            catalogue=self._catalogue,
        )

    def fold_in(self, request: Request) -> Bundle:
        """The bundle with what the people of a request did since the training."""
        people = None if request.is_for_audiences else request.rows
        return freshness.fold_in_new_events(self.bundle, people, self._lake, self._tables)

    def build(
        self,
        request: Request,
        bundle: Bundle,
        staging: Path,
        as_of: datetime,
        stopwatch: StageTimer | None = None,
    ) -> StagedLists | StagedAudiences:
        """Rank and stage what a request asks for.

        Args:
            request: not rejected.
            bundle: `fold_in(request)`.
            staging: folder of this campaign; what an earlier attempt left in it is replaced.
            as_of: the moment that item age is counted from.
            stopwatch: counts the stages.
        """
        watch = stopwatch or StageTimer()
        if request.is_for_audiences:
            return build_audiences.build_audiences(request, bundle, self._environment, staging, stopwatch=watch)
        with watch.stage(FOLDING_IN):
            weights = explanations.explanation_weights(
                bundle, request.rows, self._environment, self._lake, self._tables
            )
        return build_lists.build_lists(
            request,
            bundle,
            self._environment,
            staging,
            as_of,
            weights=weights,
            model_people=self._model_people,
            stopwatch=watch,
        )

    @cached_property
    def _attributes(self) -> frozenset[str]:
        return item_filters.attribute_names(self.bundle.items)

    @cached_property
    def _catalogue(self) -> AudienceItems:
        return AudienceItems(self.bundle)
