"""Bursts: one run answers many small campaigns of an environment, each with its own partition, checks and failure.

What belongs here: which request files share a run, and that run. What does not: how one campaign is answered
(`campaigns.service`), and when it is tried again (`retries`).

A run costs seconds before it does anything, and great-expectations most of a second per look. In a burst the campaigns
share both. The job is made of an op, not of assets, because a run of assets over several partitions can neither leave
out partitions between the first and the last nor publish one when another fails; what the op reports are the same
materializations, under each campaign's own partition. A check that passed is reported once for all campaigns, one that
failed for each: Dagster takes 22 ms of processor time to store an event, and there are a dozen checks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from recoflow.campaigns.service import BuiltCampaign, check_campaigns
from recoflow.compute.stage_timer import StageTimer
from recoflow.defs import campaign_metadata, names
from recoflow.defs.campaigns import CHECKING, published
from recoflow.defs.resources import Installation, checker
from recoflow.defs.run_reports import RunReports
from recoflow.quality.checker_process import Checker
from recoflow.quality.gx_runner import Validate
from recoflow.settings.environment import Environment
from recoflow.storage.sftp.mailbox import IncomingFile
from recoflow.storage.sftp.server_replies import LinkLostError

FILES = 128  # of one burst
BYTES = 8 << 20  # of all files of a burst
LARGE = 1 << 20  # a larger file gets a run of its own, so that small ones do not wait for it

Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


class BatchRun(dg.Config):
    """The campaigns of a run, by their keys."""

    campaigns: list[str]


def share(due: Iterable[IncomingFile]) -> list[list[IncomingFile]]:
    """The runs that answer request files, in their order; none is left out.

    Files whose run was lost share the next one with fewer others, a quarter with each loss: where it is one file that
    ends the worker, it is alone at last.
    """
    runs: list[list[IncomingFile]] = []
    open_runs: dict[int, tuple[list[IncomingFile], int]] = {}  # runs lost so far → run that has room, bytes in it
    for intake in due:
        run, size = open_runs.get(intake.lost, ([], 0))
        room = max(1, FILES >> 2 * intake.lost)
        if intake.size > LARGE or not run or len(run) >= room or size + intake.size > BYTES:
            run, size = [], 0
            runs.append(run)
        run.append(intake)
        if intake.size <= LARGE:
            open_runs[intake.lost] = run, size + intake.size
    return runs


def build_job(environment: Environment, installation: Installation) -> dg.JobDefinition:
    """`<environment>_campaign_batch`: many campaigns at once.

    It is bound to its resources here, because a sensor for a job that Definitions binds makes Dagster warn of itself.
    """

    @dg.op(name=_op(environment), out={}, description="Answers campaigns; reports each under its partition.")
    def answer_campaigns(
        context: dg.OpExecutionContext, config: BatchRun, installation: Installation, checker: dg.ResourceParam[Checker]
    ) -> Iterator[Event]:
        failures: dict[str, str] = {}
        reports = RunReports(environment, installation, context.log)
        reports.begin(config.campaigns)
        try:
            yield from _answer(
                environment,
                installation,
                config.campaigns,
                validate=checker.validate,
                failures=failures,
                reports=reports,
            )
        except Exception as error:  # it ends the run for all that are not answered yet
            for key in config.campaigns:
                if key not in failures:
                    reports.fail(key, error, is_shared=True)
            raise
        if failures:
            told = {key: dg.MetadataValue.text(problem) for key, problem in failures.items()}
            raise dg.Failure(f"{len(failures)} of {len(config.campaigns)} campaigns failed", metadata=told)

    @dg.job(
        name=names.job(environment, "campaign_batch"),
        description=f"{environment.title or environment.name}: many small campaigns at once.",
        tags={names.ENVIRONMENT_TAG: environment.name},
        resource_defs={"installation": installation, "checker": checker},
        executor_def=dg.in_process_executor,
    )
    def campaign_batch() -> None:
        answer_campaigns()

    return campaign_batch


def run_config(environment: Environment, campaigns: Sequence[str]) -> dict[str, Any]:
    """The configuration of a run that answers these campaigns."""
    return {"ops": {_op(environment): {"config": {"campaigns": list(campaigns)}}}}


def campaigns_of(environment: Environment, config: Mapping[str, Any]) -> list[str]:
    """The campaigns that a run with this configuration answers."""
    return list(config.get("ops", {}).get(_op(environment), {}).get("config", {}).get("campaigns", []))


def _op(environment: Environment) -> str:
    return names.job(environment, "answer_campaigns")


def _answer(
    environment: Environment,
    installation: Installation,
    keys: Sequence[str],
    *,
    validate: Validate,
    failures: dict[str, str],
    reports: RunReports,
) -> Iterator[Event]:
    """All steps of all campaigns; what goes wrong with one is noted in `failures` and stops no other."""
    service = installation.campaigns(environment)
    built: dict[str, BuiltCampaign] = {}
    watches: dict[str, StageTimer] = {}
    for key in keys:
        watch = watches[key] = StageTimer()
        with _noting(key, failures, reports):
            prepared = service.prepare(key, watch)
            read = campaign_metadata.of_request(environment, prepared, watch)
            built[key] = service.build(prepared, watch)
        if key in built:
            yield _materialized(read, key)
    checking = StageTimer()
    with checking.stage(CHECKING):
        findings = check_campaigns(built, validate)
    recommended = {}
    for key, campaign in built.items():
        watches[key].seconds |= checking.seconds
        recommended[key] = campaign_metadata.of_recommendations(environment, campaign, findings[key], watches[key])
        yield _materialized(recommended[key], key)
        if problem := reports.refused(key, recommended[key]):
            failures[key] = problem
    yield from _evaluated(recommended)
    for key in recommended:
        if key not in failures:
            with _noting(key, failures, reports):
                response = published(environment, installation, key)
            if key not in failures:
                yield _materialized(response, key)


@contextmanager
def _noting(key: str, failures: dict[str, str], reports: RunReports) -> Iterator[None]:
    try:
        yield
    except LinkLostError:  # it is away for all of them
        raise
    except Exception as error:  # told at the end of the run, by its failure
        failures[key] = str(error)
        reports.fail(key, error)
        reports.log.exception(f"campaign {key} failed")


def _materialized(result: dg.MaterializeResult, campaign: str) -> dg.AssetMaterialization:
    assert result.asset_key is not None
    metadata = dict(result.metadata or {})
    if result.check_results:
        metadata["checks"] = dg.MetadataValue.json(
            {str(each.check_name): "passed" if each.passed else each.description for each in result.check_results}
        )
    return dg.AssetMaterialization(result.asset_key, metadata=metadata, partition=campaign)


def _evaluated(recommended: Mapping[str, dg.MaterializeResult]) -> Iterator[dg.AssetCheckEvaluation]:
    """For each check one evaluation for all campaigns that passed it, then one for each campaign that failed it.

    The UI shows the latest evaluation of a check, so failures come last.
    """
    results: dict[str, dict[str, dg.AssetCheckResult]] = {}
    for key, result in recommended.items():
        for each in result.check_results or ():
            results.setdefault(str(each.check_name), {})[key] = each
    for found in results.values():
        passed = [key for key, each in found.items() if each.passed]
        if passed:
            together = {"campaigns": dg.MetadataValue.json(passed)}
            yield _evaluation(found[passed[0]], together, f"{len(passed)} of {len(found)} campaigns passed")
        for key, each in found.items():
            if not each.passed:
                yield _evaluation(each, each.metadata or {}, each.description, key)


def _evaluation(
    result: dg.AssetCheckResult, shown: Mapping[str, Any], description: str | None, campaign: str | None = None
) -> dg.AssetCheckEvaluation:
    assert result.asset_key is not None
    assert result.check_name is not None
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name,
        passed=result.passed,
        metadata=shown,
        target_materialization_data=None,
        severity=result.severity,
        description=description,
        blocking=True,
        partition=campaign,
    )
