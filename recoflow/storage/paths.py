"""Where everything lies under one root folder. Pure path arithmetic: nothing here touches the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DATA_VARIABLE: Final = "RECOFLOW_DATA"  # the process variable that names the data folder
DATA_FOLDER: Final = Path("data")  # without it: under the working directory


@dataclass(frozen=True)
class Paths:
    """Folders of an installation; `root` is the data folder (`data/` in the repository)."""

    root: Path

    @classmethod
    def of_process(cls, variables: Mapping[str, str]) -> Paths:
        """The installation that a process belongs to, by its variables."""
        return cls(Path(variables.get(DATA_VARIABLE, DATA_FOLDER)).absolute())

    @property
    def environments(self) -> Path:
        """One YAML file per environment."""
        return self.root / "environments"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file for people and BI tools, replaced as a whole."""
        return self.root / "warehouse.duckdb"

    @property
    def sftp(self) -> Path:
        """The embedded SFTP server's files: host key, client keys, accounts."""
        return self.root / "sftp"

    @property
    def sftp_port(self) -> Path:
        """Where the embedded SFTP server says which port it took."""
        return self.sftp / "port"

    @property
    def logs(self) -> Path:
        """Output of the services."""
        return self.root / "logs"

    @property
    def alerts(self) -> Path:
        """Faults of the installation that a person should know of, one JSON object a line."""
        return self.logs / "alerts.jsonl"

    @property
    def up_lock(self) -> Path:
        """Held by the one `recoflow up` on this folder."""
        return self.root / "up.lock"

    @property
    def members_lock(self) -> Path:
        """Shared by the processes of a stack."""
        return self.root / "members.lock"

    def token(self, environment: str) -> Path:
        """The token that the gateway makes for an environment without tokens of its own."""
        return self.root / "tokens" / environment

    @property
    def dagster(self) -> Path:
        """Dagster's databases, artifacts and logs of runs, as dagster.yaml says."""
        return self.root / "dagster"

    @property
    def erasures(self) -> Path:
        """Which ids were erased, as keyed hashes, and the key; not part of backups."""
        return self.root / "erasures"

    def lake(self, environment: str) -> Path:
        """Delta tables of one environment, one folder each."""
        return self.root / "lake" / environment

    def models(self, environment: str) -> Path:
        """Model bundles, one folder per version, and the champion pointer."""
        return self.root / "models" / environment

    def tuning(self, environment: str) -> Path:
        """The journal of an environment's searches for settings."""
        return self.root / "tuning" / f"{environment}.journal"

    def campaigns(self, environment: str) -> Path:
        """One folder per campaign: request, staged recommendations, rendered response."""
        return self.root / "campaigns" / environment

    def inbox(self, environment: str) -> Path:
        """Local drop folder for event and item files."""
        return self.root / "inbox" / environment

    def mailbox(self, environment: str) -> Path:
        """The SFTP ledger and the files that were fetched."""
        return self.root / "mailbox" / environment

    def forgotten(self, environment: str) -> Path:
        """What became of each request to forget people: reports, which name nobody."""
        return self.root / "forgotten" / environment

    def spool(self, environment: str) -> Path:
        """What came over the network and is not in the lake yet."""
        return self.root / "spool" / environment
