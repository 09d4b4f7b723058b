"""A campaign: each operation of the document is tried with valid, with invalid, and with extreme requests."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import GenerationConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import allow_header_conformance, positive_data_acceptance, unsupported_method

from outlast.api.route import Route
from outlast.api.routes import ROUTES
from tests.fuzz.session import Session
from tests.fuzz.world import REFS, World

BOTH_MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
RUN = "/api/v1/processes/run"
WEBSOCKETS = ("/ws", "/tunnels/tcp")
SHORTENED_CHARS = 64  # of a name, in an error
MAX_REPORTED = 5  # of an operation's failures


class Campaign:
    """A run of schemathesis over the document that a daemon serves.

    Args:
        ended: a process that has ended and has output.
        folder: where files may be written.
        examples: how many requests of each operation to make up at random that fit it, and as many that do not.
        limits: how many requests of each operation with values at their limits to make at most.
    """

    def __init__(
        self, url: str, token: str, ended: dict[str, Any], folder: Path, *, examples: int, limits: int
    ) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._ended = ended
        self._folder = folder
        self._examples = examples
        self._limits = limits
        self._session = Session()
        self.statuses: dict[str, set[int]] = {}

    def run(self) -> list[str]:
        """Try every operation, and return the failures as text."""
        document = self._session.get(f"{self._url}/api/v1/openapi.json", headers=self._headers).json()
        schema = schemathesis.openapi.from_dict(document, config=schemathesis.Config())
        world = World(self._url, self._headers, self._ended, self._folder)
        found = list(schema.get_all_operations())
        operations = [each.ok() for each in found if isinstance(each, Ok)]
        assert len(operations) == len(found), "an operation of the document is not valid"
        operations = [
            each for each in operations if not each.path.endswith(WEBSOCKETS)
        ]  # these requests open no websocket
        wrong = []
        # DELETE comes last: a deleted process cannot be tried any more.
        for operation in sorted(operations, key=lambda each: each.method == "delete"):
            failures = itertools.chain(self._at_the_limits(operation, world), self._at_random(operation, world))
            wrong += list(itertools.islice(failures, MAX_REPORTED))
        world.close()
        self._session.close()
        return wrong

    def _at_the_limits(self, operation: Any, world: World) -> Iterator[str]:
        cases = operation.schema.iter_coverage_cases(
            operation, generation_modes=BOTH_MODES, generation_config=GenerationConfig()
        )
        for case, ref in zip(itertools.islice(cases, self._limits), itertools.cycle(REFS), strict=False):
            try:
                self._try(case, ref, world)
            except (FailureGroup, requests.RequestException) as error:
                yield f"{operation.label}: {error}"

    def _at_random(self, operation: Any, world: World) -> Iterator[str]:
        for mode in BOTH_MODES:

            @settings(
                max_examples=self._examples,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode), ref=st.sampled_from(REFS))
            def attempt(case: Any, ref: str) -> None:
                self._try(case, ref, world)

            try:
                attempt()
            except (FailureGroup, requests.RequestException) as error:
                yield f"{operation.label}: {error}"

    def _try(self, case: Any, ref: str, world: World) -> None:
        world.prepare(case, ref)
        response = case.call_and_validate(
            base_url=self._url,
            session=self._session,
            headers=dict(self._headers),
            additional_checks=[names_what_is_wrong],
            # A process may have ended, and no schema tells which patterns or statements are right.
            # A process may be named "run": its path takes what those of other processes take.
            excluded_checks=[
                positive_data_acceptance,
                *([allow_header_conformance, unsupported_method] if case.operation.path == RUN else []),
            ],
        )
        self.statuses.setdefault(case.operation.label, set()).add(response.status_code)


def names_what_is_wrong(_: Any, response: Any, case: Any) -> None:
    """Check that an error about a wrong request names a field of the request, or a missing one."""
    if response.status_code != requests.codes.bad_request or response.json()["code"] != "INVALID_REQUEST":
        return
    sentence = response.json()["error"]
    given = [
        *(case.path_parameters or {}),
        *(case.query or {}),
        *(case.headers or {}),
        *(case.body if isinstance(case.body, dict) else ()),
    ]
    names = {str(name)[:SHORTENED_CHARS] for name in given} | FIELDS[case.operation.label] | {"the body"}
    assert any(name in sentence for name in names), f"names no field: {sentence}"


def _fields(route: Route) -> set[str]:
    schemas = [route.query, *([route.body] if isinstance(route.body, type) else [])]
    return {name for schema in schemas for name in schema().fields}


FIELDS = {f"{route.method} {route.path}": _fields(route) for route in ROUTES}
