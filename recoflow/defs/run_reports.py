"""What runs report of the campaigns that they work on: that they begin, and how they fail.

What belongs here: whose fault a failure is. What does not: the counts (`storage.sftp.attempts`), and what follows from
them (see `retries`).

Only failures whose cause is the request count against it. Damaged models, a full disk, a server that is away and the
like are faults of the installation, which cures do not depend on the request. So are refusals by a check or by the
audit: what they judge is made from model, tables and settings, and an answer is due once these are mended.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging import Logger
from typing import Final

import dagster as dg
import duckdb

from recoflow.campaigns import campaign_record
from recoflow.defs.clock import now
from recoflow.defs.resources import Installation
from recoflow.errors import (
    AuditError,
    CampaignError,
    ConfigurationError,
    MailboxError,
    ModelError,
    RecoflowError,
    StorageError,
)
from recoflow.settings.environment import Environment
from recoflow.storage import alerts

OF_INSTALLATION: Final = (
    AuditError,
    ConfigurationError,
    ImportError,
    MailboxError,
    MemoryError,
    ModelError,
    OSError,
    StorageError,
    duckdb.Error,
    sqlite3.Error,
)


class RunReports:
    """The reports of one run on campaigns of one environment, by their keys."""

    def __init__(self, environment: Environment, installation: Installation, log: Logger) -> None:
        self._environment = environment
        self._installation = installation
        self.log = log

    def begin(self, keys: Sequence[str]) -> None:
        """The run begins to work on these campaigns."""
        claims = [claim for claim in map(self._claim, keys) if claim is not None]
        with self._installation.mailbox(self._environment) as mailbox:
            mailbox.begun(claims)

    @contextmanager
    def reporting(self, key: str) -> Iterator[None]:
        """Report an exception that leaves the block, and let it pass."""
        try:
            yield
        except Exception as error:
            self.fail(key, error)
            raise

    def fail(self, key: str, error: Exception, *, is_shared: bool = False) -> None:
        """A campaign failed; an error that it shares with other campaigns of its run is not its fault."""
        is_own = not is_shared and not isinstance(error, OF_INSTALLATION)
        claim = self._claim(key)
        if claim is None:
            return
        try:
            with self._installation.mailbox(self._environment) as mailbox:
                is_new = mailbox.failed(claim, str(error), is_own=is_own)
        except (RecoflowError, OSError, sqlite3.Error):  # the failure itself is what the run has to show
            self.log.exception(f"the failure of campaign {key} could not be counted")
            return
        if is_new and not is_own:
            alerts.raise_alert(self._installation.layout.alerts, _readable(error), now(), self._environment.name)

    def refused(self, key: str, result: dg.MaterializeResult) -> str | None:
        """Report the blocking checks that a campaign did not pass; what they say, None when it passed all."""
        refusals = [
            f"{each.check_name}: {each.description}" for each in result.check_results or () if is_blocking(each)
        ]
        if not refusals:
            return None
        problem = "; ".join(refusals)
        cure = (
            "It is tried again. Mend model, tables or settings: `recoflow models list`, and the run in the Dagster UI"
        )
        self.fail(key, AuditError(f"campaign {key}", f"was refused by its checks: {problem}", cure))
        return problem

    def _claim(self, key: str) -> str | None:
        try:
            return campaign_record.load_record(
                self._installation.layout.campaigns(self._environment.name), key
            ).claim_id
        except CampaignError:  # the campaign fails because of that, and says so
            return None


def is_blocking(result: dg.AssetCheckResult) -> bool:
    """Whether a check keeps a campaign from its publication."""
    return not result.passed and result.severity is dg.AssetCheckSeverity.ERROR


def _readable(error: Exception) -> RecoflowError:
    if isinstance(error, RecoflowError):
        return error
    cure = "Request files are tried again. See the log of the run in the Dagster UI"
    return RecoflowError("a campaign", f"failed: {type(error).__name__}: {error}", cure)
