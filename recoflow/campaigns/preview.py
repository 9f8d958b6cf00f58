"""A dry run of a request file: what it would be answered, with nothing published and nothing kept.

What belongs here: the way of a file that lies in a folder. What does not: rules (`request`) and ranking (`answer`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from recoflow.campaigns import freshness, inputs
from recoflow.campaigns.audiences import build_audiences, select, staged_audiences
from recoflow.campaigns.lists import build_lists, explanations, item_filters
from recoflow.campaigns.publishing import render
from recoflow.campaigns.requests import request_parser
from recoflow.models.store import bundle_store
from recoflow.storage import atomic_files, configuration_store
from recoflow.storage.configuration_store import Register
from recoflow.storage.scratch import Scratch

if TYPE_CHECKING:
    from datetime import datetime

    from recoflow.campaigns.requests.model import Request
    from recoflow.settings.environment import Environment
    from recoflow.storage.lake.lake import Lake
    from recoflow.storage.paths import Layout


class Trial:
    """A request file and the model that would answer it if it arrived now.

    Args:
        path: the file; its name is the one that it will be uploaded under.
        environment: whose account it will go to.
        layout: of the installation.
        lake: of the environment.
        now: the time of receipt.

    Attributes:
        request: as it was understood; its `campaign_id` is the one that the file will have.

    Raises:
        ModelError: there is no model yet.
    """

    def __init__(self, path: Path, environment: Environment, layout: Layout, lake: Lake, now: datetime) -> None:
        self._now, self._lake = now, lake
        self._environment = configuration_store.effective(environment, Register(lake).history())
        self._inputs = inputs.in_service(layout.models(environment.name), lake, self._environment)
        model = bundle_store.load_bundle(layout.models(environment.name) / self._inputs.model_version)
        self._bundle = freshness.with_current_items(model, lake, self._inputs.tables)
        self.request: Request = request_parser.parse_request(
            path,
            name=path.name,
            environment=self._environment,
            sha256=atomic_files.sha256(path),
            known_attributes=item_filters.attribute_names(self._bundle.items),
            algorithms=item_filters.algorithms(self._bundle),
            catalogue=select.Catalogue(self._bundle),
        )

    def preview(self, rows: int) -> pl.DataFrame:
        """The answer to the first `rows` accepted rows, with the columns of the response and the score of each item.

        Raises:
            CampaignError: the request is refused as a whole.
        """
        asked = replace(self.request, rows=self.request.rows.head(rows))
        people = None if asked.is_for_audiences else asked.rows
        model = freshness.with_current_people(self._bundle, people, self._lake, self._inputs.tables)
        with Scratch() as folder:
            if asked.is_for_audiences:
                chosen = build_audiences.answer(asked, model, self._environment, Path(folder))
                columns = [*staged_audiences.COLUMNS, "score"]
                return pl.read_parquet(list(chosen.parts), columns=columns).select(columns)
            weights = explanations.weights(model, asked.rows, self._environment, self._lake, self._inputs.tables)
            staged = build_lists.answer(asked, model, self._environment, Path(folder), self._now, weights=weights)
            columns = [*render.columns(staged.information_fields), "score"]
            return pl.read_parquet(list(staged.parts), columns=columns).select(columns)
