"""What the OpenAPI document says is what the gateway does: no failure and no status that is not described."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from recoflow.gateway import openapi
from recoflow_tests.gateway.client import Running

schemathesis = pytest.importorskip("schemathesis")

METHODS = {"get", "put", "post", "delete"}
DOCUMENT = openapi.document(["lorem", "ipsum"])
schema = schemathesis.openapi.from_dict(DOCUMENT)
CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]


def described(method: str, path: str) -> Any:
    """A test of one operation. schemathesis would give all operations of one function the same node id."""

    @schema.include(method=method, path=path).parametrize()
    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    def test(case: Any, gateway: Running) -> None:
        if "environment" in case.path_parameters:
            case.path_parameters["environment"] = "lorem"
        case.call_and_validate(base_url=gateway.url, headers=gateway.token(), checks=CHECKS)

    return test


OPERATIONS = [(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods if method in METHODS]
for number, (method, path) in enumerate(OPERATIONS):
    globals()[f"test_every_answer_is_described_{number}"] = described(method.upper(), path)


def test_every_operation_is_asked() -> None:
    asked = [name for name in globals() if name.startswith("test_every_answer_is_described_")]
    assert len(asked) == len(OPERATIONS) == len([*schema.get_all_operations()]) > 10
