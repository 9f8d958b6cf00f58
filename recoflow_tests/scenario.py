"""An installation in a folder, driven as the daemon drives it: SFTP in, sensor ticks, real runs, SFTP out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import paramiko
import yaml

from recoflow.definitions import build_definitions
from recoflow.defs import names
from recoflow.sandbox import feeder, keys, sftp_server
from recoflow.settings import environment
from recoflow.storage.alerts import read_alerts
from recoflow.storage.paths import Paths
from recoflow.storage.sftp.clock import SystemClock
from recoflow.storage.sftp.ledger import Ledger

REPOSITORY = Path(__file__).parents[1]
TICKS = 40


@dataclass
class Scenario:
    """One installation with its SFTP server running."""

    layout: Paths
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    port: int

    def environment(self, name: str) -> environment.Environment:
        return environment.load_environment(self.layout.environments / f"{name}.yaml")

    def reload(self) -> None:
        """Read the environments' files again, as the code server does when it is reloaded."""
        self.definitions = build_definitions(self.layout.root)

    @contextmanager
    def customer(self, name: str = "lorem") -> Iterator[paramiko.SFTPClient]:
        with feeder.connect(self.layout.sftp, name, self.port) as sftp:
            yield sftp

    def tick(self, sensor: str) -> dg.SensorResult | dg.RunRequest | dg.SkipReason:
        """One look of a sensor, with the partitions that it asks for added."""
        repository = self.definitions.get_repository_def()
        resources = {"installation": self.definitions.resources["installation"]}
        context = dg.build_sensor_context(instance=self.instance, repository_def=repository, resources=resources)
        answer = repository.get_sensor_def(sensor)(context)
        for asked in getattr(answer, "dynamic_partitions_requests", None) or []:
            self.instance.add_dynamic_partitions(asked.partitions_def_name, list(asked.partition_keys))
        return answer

    def run_requests(self, sensor: str) -> list[dg.RunRequest]:
        """What a sensor asks for, ticked until it asks for something."""
        for _ in range(TICKS):
            answer = self.tick(sensor)
            if isinstance(answer, dg.RunRequest):
                return [answer]
            if isinstance(answer, dg.SensorResult):
                return list(answer.run_requests or [])
            time.sleep(0.02)
        raise AssertionError(f"{sensor} asked for no run: {answer}")

    def pauses(self, account: str = "lorem") -> list[float]:
        """Seconds until the next attempt at each request file that waits, the oldest first."""
        with Ledger(self.layout.mailbox(account) / "ledger.sqlite") as ledger:
            now = ledger.service_time(SystemClock())
            return [max(0.0, claim.retry_at - now) for claim in ledger.pending()]

    def rest(self, account: str = "lorem") -> None:
        """Let the pauses of all request files that wait be over."""
        with Ledger(self.layout.mailbox(account) / "ledger.sqlite") as ledger:
            for claim in ledger.pending():
                ledger.update(claim.id, retry_at=0.0)

    def asked(self, count: int, account: str = "lorem") -> dg.RunRequest:
        """The one run that the request sensor asks for when so many files are there."""
        with self.definitions.resources["installation"].mailbox(self.environment(account)) as mailbox:
            while len(mailbox.pending("requests")) < count:
                mailbox.poll("requests")
        (request,) = self.run_requests(f"{account}_requests")
        return request

    def alerts(self) -> list[str]:
        """The alerts that were raised, in order."""
        return [str(alert) for alert, _ in read_alerts(self.layout.alerts)]

    def run(self, job: str, request: dg.RunRequest | None = None, **selection: object) -> dg.ExecuteInProcessResult:
        """A real run of a job in this process."""
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key if request else None,
            run_config=request.run_config if request else None,
            tags=dict(request.tags) if request else None,
            raise_on_error=False,
            **selection,
        )

    def ingest_and_train(self, files: Path, name: str = "lorem") -> dict[str, dg.ExecuteInProcessResult]:
        with self.customer(name) as sftp:
            for file in sorted(files.iterdir()):
                feeder.drop(sftp, file, folder="periodic")
        results = {}
        for sensor, job in ((f"{name}_files", "ingest"), (f"{name}_first_training", "training")):
            (request,) = self.run_requests(sensor)
            results[job] = self.run(f"{name}_{job}", request)
            assert results[job].success
        return results

    def drop_request(self, text: str, name: str, account: str = "lorem") -> None:
        self.drop_requests({name: text}, account)

    def drop_requests(self, files: Mapping[str, str | bytes], account: str = "lorem") -> None:
        path = self.layout.root / "request-to-drop.csv"
        with self.customer(account) as sftp:
            for name, content in files.items():
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
                feeder.drop(sftp, path, name)

    def responses(self, account: str = "lorem") -> list[str]:
        with self.customer(account) as sftp:
            return feeder.responses(sftp)

    def fetch(self, name: str, account: str = "lorem") -> str:
        target = self.layout.root / "fetched"
        with self.customer(account) as sftp:
            feeder.collect(sftp, name, target)
        return target.read_text(encoding="utf-8")

    def campaign(self, request: dg.RunRequest, account: str = "lorem") -> dg.ExecuteInProcessResult:
        return self.run(request.job_name or f"{account}_campaign", request)

    def select(self, request: dg.RunRequest, asset: str, account: str = "lorem") -> dg.ExecuteInProcessResult:
        """One asset of a campaign alone, as the UI's button materializes it."""
        key = names.asset_key(self.environment(account), asset)
        return self.run(f"{account}_campaign", request, asset_selection=[key])


@contextmanager
def installed(root: Path, *environments: str, template: Path | None = None) -> Iterator[Scenario]:
    """A new installation under `root`, with the lake and the models of `template` when one is given."""
    layout = Paths(root)
    layout.environments.mkdir(parents=True)
    for name in environments:
        write_environment(layout, name)
    for part in ("lake", "models") if template else ():
        shutil.copytree(template / part, root / part)
    accounts = keys.prepare(layout.sftp, environments)
    with sftp_server.serve(layout.sftp, accounts, 0) as server, dg.instance_for_test(temp_dir=None) as instance:
        layout.sftp_port.write_text(str(server.port))
        yield Scenario(layout, build_definitions(root), instance, server.port)


def write_environment(layout: Paths, name: str) -> None:
    """The sample environment under another name, with no quiet time."""
    settings = yaml.safe_load((REPOSITORY / "data/environments/lorem.yaml").read_text())
    settings["name"] = settings["sftp"]["username"] = name
    settings["sftp"]["quiet_seconds"] = 0
    settings["schedules"]["poll_seconds"] = 2
    (layout.environments / f"{name}.yaml").write_text(yaml.safe_dump(settings))


def materializations(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, object]]:
    """Asset name → metadata values of a run."""
    return {
        event.asset_key.path[-1]: {key: value.value for key, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
    }


def failed_checks(result: dg.ExecuteInProcessResult) -> set[str]:
    """Names of the checks that did not pass in a run."""
    return {check.check_name for check in result.get_asset_check_evaluations() if not check.passed}
