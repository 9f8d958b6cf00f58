"""A client of the Dagster UI's GraphQL endpoint: what the demo asks, as a browser would.

What belongs here: questions to a running web server over HTTP. What does not: imports of dagster.
"""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

RUNS = """
query Runs($filter: RunsFilter) {
  runsOrError(filter: $filter, limit: 100) {
    __typename
    ... on Runs { results { runId status jobName startTime endTime tags { key value } } }
    ... on PythonError { message }
  }
}
"""
UNFINISHED = ["NOT_STARTED", "QUEUED", "STARTING", "STARTED", "CANCELING"]


@dataclass(frozen=True)
class Run:
    """One run as the UI lists it."""

    run_id: str
    status: str  # QUEUED, STARTED, SUCCESS, FAILURE, …
    job: str
    partition: str | None
    seconds: float | None


@dataclass(frozen=True)
class DagsterUi:
    """A running dagster-webserver at `url`, e.g. http://127.0.0.1:3000."""

    url: str

    def runs(self, job: str) -> list[Run]:
        """The latest 100 runs of a job, newest first."""
        answer = self.ask(RUNS, {"filter": {"pipelineName": job}})["runsOrError"]
        return [_run(found) for found in answer["results"]]

    def is_busy(self) -> bool:
        """Whether any run is at work, or waits."""
        return bool(self.ask(RUNS, {"filter": {"statuses": UNFINISHED}})["runsOrError"]["results"])

    def run_page(self, run: Run) -> str:
        """The address of a run's page."""
        return f"{self.url}/runs/{run.run_id}"

    def ask(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The data that answers a GraphQL query or mutation."""
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        request = urllib.request.Request(  # noqa: S310 - http on loopback
            f"{self.url}/graphql", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
            answer: dict[str, Any] = json.load(reply)
        if answer.get("errors"):
            raise ValueError(f"GraphQL refused the question: {answer['errors']}")
        data: dict[str, Any] = answer["data"]
        return data


def _run(found: dict[str, Any]) -> Run:
    tags = {tag["key"]: tag["value"] for tag in found["tags"]}
    start, end = found["startTime"], found["endTime"]
    return Run(
        run_id=found["runId"],
        status=found["status"],
        job=found["jobName"],
        partition=tags.get("dagster/partition"),
        seconds=end - start if start and end else None,
    )
