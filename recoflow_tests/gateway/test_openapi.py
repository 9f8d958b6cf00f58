"""What the OpenAPI document says is what the gateway does: no failure and no status that is not described."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from recoflow.gateway import openapi
from recoflow_tests.gateway.client import Running

schemathesis = pytest.importorskip("schemathesis")

schema = schemathesis.openapi.from_dict(openapi.document(["lorem", "ipsum"]))
CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]


@schema.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_described(case: Any, gateway: Running) -> None:
    if "environment" in case.path_parameters:
        case.path_parameters["environment"] = "lorem"
    case.call_and_validate(base_url=gateway.url, checks=CHECKS)
