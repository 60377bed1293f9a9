"""What the server answers is what its OpenAPI description says, for requests that schemathesis makes up."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.serving import serving

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
CHECKS = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
QUICKLY = settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


def test_answers_are_as_described() -> None:
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    chosen = [not_a_server_error, *(getattr(checks, name) for name in CHECKS)]
    with serving() as place:
        schema = schemathesis.openapi.from_url(f"{place}/openapi.json")
        operations = [each.ok() for each in schema.get_all_operations()]
        assert len(operations) == 5

        @QUICKLY
        @given(case=st.one_of(*(operation.as_strategy() for operation in operations)))
        def try_out(case: object) -> None:
            case.call_and_validate(checks=chosen)  # type: ignore[attr-defined]

        try_out()
