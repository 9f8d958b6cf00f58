"""`recoflow.open(environment)`: tables, bundles and recommendations for notebooks and scripts, without Dagster.

What belongs here: reading. What does not: anything that changes the lake, promotes a model or publishes a file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from recoflow.errors import CampaignError, ModelError
from recoflow.models.store import bundle_store
from recoflow.settings import environment
from recoflow.storage import configuration_store
from recoflow.storage.lake.lake import TABLES, Lake
from recoflow.storage.paths import Paths
from recoflow.storage.scratch import Scratch

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from recoflow.models.store.bundle import Bundle


class Workbench:
    """One environment of an installation, opened for reading.

    Args:
        layout: the installation's folders.
        settings: the environment's configuration.
    """

    def __init__(self, layout: Paths, settings: environment.Environment) -> None:
        self.layout = layout
        self.environment = settings
        self.lake = Lake(layout.lake(settings.name))

    def table(self, name: str) -> pl.LazyFrame:
        """A table of the lake, as of now, in the columns of `recoflow.schema`; empty when nothing was written yet.

        Raises:
            KeyError: naming the tables that there are.
        """
        if name not in TABLES:
            raise KeyError(f"'{name}' is not a table; there are {', '.join(TABLES)}")
        return self.lake.scan(name)

    def sql(self, query: str) -> duckdb.DuckDBPyRelation:
        """A DuckDB relation over the tables of the lake as of now; it keeps its connection, which is its own."""
        import duckdb  # noqa: PLC0415

        connection = duckdb.connect()
        self.lake.views(connection)
        return connection.sql(query)

    def bundle(self, version: str | None = None) -> Bundle:
        """A model bundle: the one that serves, or the version that is named.

        Raises:
            ModelError: when there is none, or its files are damaged.
        """
        from recoflow.models.store import versions  # noqa: PLC0415

        folder = self.layout.models(self.environment.name)
        found = versions.champion_bundle(folder) if version is None else bundle_store.load_bundle(folder / version)
        if found is None:
            cure = f"Materialize factors and champion of {self.environment.name} first"
            raise ModelError(str(folder), "has no champion", cure)
        return found

    def recommend(
        self,
        users: Sequence[str],
        size: int = 10,
        *,
        list_name: str = "preview",
        configuration_id: str | None = None,
        as_of: datetime | None = None,
    ) -> pl.DataFrame:
        """Recommendations for users as a campaign would give them now; nothing is published.

        Args:
            users: user ids; one that is unknown gets the fallback.
            size: items per user.
            list_name: as in a request file; may choose a configuration.
            configuration_id: of the environment's configurations, or one that was registered by the API.
            as_of: the moment that item age is counted from, and whose registered configurations hold; now by default.

        Returns:
            The response's rows: RESPONSE_COLUMNS, the information fields, rank; and the score.

        Raises:
            CampaignError: naming the first thing that is wrong with the request.
        """
        import polars as pl  # noqa: PLC0415

        from recoflow.campaigns import inputs  # noqa: PLC0415
        from recoflow.campaigns.serving_model import ServingModel  # noqa: PLC0415

        if isinstance(users, str):
            raise CampaignError("users", "is one text, not a list of user ids", f"Write [{users!r}]")
        settings = configuration_store.effective(
            self.environment, configuration_store.ConfigurationStore(self.lake).history(), as_of
        )
        model = ServingModel(self.bundle(), settings, self.lake, inputs.current_tables(self.lake))
        rows = _request_file(self.environment.name, users, size, list_name, configuration_id)
        with Scratch() as folder:
            path = Path(folder) / "request.csv"
            path.write_bytes(rows)
            name = f"{self.environment.name}_preview_2000-01-01.csv"
            asked = model.parse(path, name=name, sha256=hashlib.sha256(rows).hexdigest())
            if asked.errors.height:
                first = asked.errors.row(0, named=True)
                culprit = f"column {first['column']}" if first["column"] else "users"
                raise CampaignError(culprit, first["message"].removesuffix("."), f"({first['code']})")
            staged = model.build(asked, model.fold_in(asked), Path(folder) / "staged", as_of or datetime.now(UTC))
            return pl.read_parquet(list(staged.parts)).drop("row", "page_type")


def open_environment(name: str, data: str | Path | None = None) -> Workbench:
    """Open an environment.

    Args:
        name: of the environment.
        data: the data folder; `RECOFLOW_DATA`, else `data` under the working directory.

    Raises:
        ConfigurationError: when the environment's file is missing or wrong.
    """
    layout = Paths.of_process(os.environ) if data is None else Paths(Path(data).absolute())
    return Workbench(layout, environment.load_environment(layout.environments / f"{name}.yaml"))


def _request_file(
    environment_name: str, users: Sequence[str], size: int, list_name: str, configuration_id: str | None
) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("environment", "user_id", "list_name", "list_size", "configuration_id", "page_type"))
    for user in users:
        writer.writerow((environment_name, user, list_name, size, configuration_id or "", "other"))
    return text.getvalue().encode()
