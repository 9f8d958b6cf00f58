"""Resources: where an installation's data lies, and how its stores are opened."""

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from pydantic import PrivateAttr

from recoflow.campaigns.service import CampaignService
from recoflow.defs import workers
from recoflow.defs.clock import now
from recoflow.errors import RecoflowError
from recoflow.quality.checker_process import Checker
from recoflow.settings.environment import Environment
from recoflow.storage import alerts, configuration_store
from recoflow.storage.configuration_store import ConfigurationStore
from recoflow.storage.lake.lake import Lake
from recoflow.storage.paths import Paths
from recoflow.storage.sftp.account import Account
from recoflow.storage.sftp.ledger import Ledger
from recoflow.storage.sftp.mailbox import Mailbox


@dataclass
class _Shared:
    """A mailbox that the ticks of one process share, one at a time: a new SFTP connection costs about 0.2 s."""

    ledger: Ledger
    inbox: Path
    guard: threading.Lock = field(default_factory=threading.Lock)
    account: Account | None = None
    mailbox: Mailbox | None = None

    def of(self, account: Account) -> Mailbox:
        """The mailbox of the account; it connects again if the account has changed."""
        if self.mailbox is None or self.account != account:
            if self.mailbox is not None:
                self.mailbox.close()
            self.account, self.mailbox = account, Mailbox(account, self.ledger, self.inbox)
        return self.mailbox


_shared: dict[Path, _Shared] = {}
_opening = threading.Lock()


@dg.resource(description="The process that checks campaigns; it gets ready while a run reads, ranks and stages.")
def checker(_context: dg.InitResourceContext) -> Iterator[Checker]:
    """Begins and ends with the runs that check campaigns, and with no others."""
    with Checker() as entered:
        yield entered


class Installation(dg.ConfigurableResource):
    """The data folder of this installation, and the stores in it."""

    data: str
    _campaigns: dict[str, CampaignService] = PrivateAttr(default_factory=dict)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """A run begins with this: say which process executes it."""
        if context.instance is not None and context.run is not None:
            workers.sign(context.instance, context.run.run_id)

    @property
    def layout(self) -> Paths:
        """Folders under the data folder."""
        return Paths(Path(self.data).absolute())

    def lake(self, environment: Environment) -> Lake:
        """The Delta tables of one environment."""
        return Lake(self.layout.lake(environment.name))

    def effective(self, environment: Environment) -> Environment:
        """The environment with the configurations that are registered now."""
        return configuration_store.effective(environment, ConfigurationStore(self.lake(environment)).history())

    def campaigns(self, environment: Environment) -> CampaignService:
        """What answers campaigns of the environment; one for all steps of a run, so that a model is loaded once."""
        if environment.name not in self._campaigns:
            self._campaigns[environment.name] = CampaignService(
                environment, self.layout, self.lake(environment), functools.partial(self._alert, environment.name)
            )
        return self._campaigns[environment.name]

    def _alert(self, environment: str, fault: RecoflowError) -> None:
        alerts.raise_alert_daily(self.layout.alerts, fault, now(), environment)

    @contextmanager
    def mailbox(self, environment: Environment) -> Iterator[Mailbox]:
        """The environment's SFTP account, for one user at a time in this process."""
        folder = self.layout.mailbox(environment.name)
        account = Account.of(environment, self.layout)
        with _opening:
            shared = _shared.get(folder)
            if shared is None:
                shared = _shared[folder] = _Shared(Ledger(folder / "ledger.sqlite"), folder / "inbox")
        with shared.guard:
            yield shared.of(account)
