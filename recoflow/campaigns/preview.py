"""A dry run of a request file: what it would be answered, with nothing published and nothing kept.

What belongs here: the way of a file that lies in a folder. What does not: rules (`requests`) and ranking (`lists`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from recoflow.campaigns import inputs
from recoflow.campaigns.publishing import render
from recoflow.campaigns.serving_model import ServingModel
from recoflow.models.store.bundle_store import load_bundle
from recoflow.storage import atomic_files, configuration_store
from recoflow.storage.configuration_store import ConfigurationStore
from recoflow.storage.scratch import Scratch

if TYPE_CHECKING:
    from datetime import datetime

    from recoflow.campaigns.requests.model import Request
    from recoflow.settings.environment import Environment
    from recoflow.storage.lake.lake import Lake
    from recoflow.storage.paths import Paths


class RequestPreview:
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

    def __init__(self, path: Path, environment: Environment, layout: Paths, lake: Lake, now: datetime) -> None:
        self._now = now
        settings = configuration_store.effective(environment, ConfigurationStore(lake).history())
        chosen = inputs.inputs_in_service(layout.models(environment.name), lake, settings)
        bundle = load_bundle(layout.models(environment.name) / chosen.model_version)
        self._model = ServingModel(bundle, settings, lake, chosen.tables)
        self.request: Request = self._model.parse(path, name=path.name, sha256=atomic_files.sha256(path))

    def preview(self, rows: int) -> pl.DataFrame:
        """The answer to the first `rows` accepted rows, with the columns of the response and the score of each item.

        Raises:
            CampaignError: the request is refused as a whole.
        """
        asked = replace(self.request, rows=self.request.rows.head(rows))
        with Scratch() as folder:
            staged = self._model.build(asked, self._model.fold_in(asked), Path(folder), self._now)
            columns = (*render.published_columns(staged).names(), "score")
            return pl.read_parquet(list(staged.parts), columns=list(columns)).select(columns)
