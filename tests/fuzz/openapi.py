"""Requests that schemathesis makes of the service's own description, and answers held to it."""

from __future__ import annotations

from typing import Any, Final

import httpx
import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.parsers import Tally
from tests.support.running import Api

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def attack_operations(url: str, seed: int, inputs: int, tally: Tally) -> None:
    """Send so many requests to each operation; raise schemathesis' failures.

    In every other request the session is one that exists.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    with httpx.Client(base_url=url) as http:
        for result in schema.get_all_operations():
            assert isinstance(result, Ok), result
            session = Api(http).start(objects=2)
            _attack_operation(result.ok(), session, seed, inputs, tally)
            http.delete(f"/v1/sessions/{session}")


def _attack_operation(
    operation: schemathesis.APIOperation[Any, Any, Any, Any],
    session: str,
    seed: int,
    inputs: int,
    tally: Tally,
) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=inputs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def send(case: schemathesis.Case[Any]) -> None:
        if "session_id" in case.path_parameters and tally.inputs % 2:
            case.path_parameters["session_id"] = session
        answer = case.call()
        case.validate_response(answer, checks=CHECKS)
        tally.count(refused=answer.status_code >= 400, seconds=answer.elapsed)

    send()
