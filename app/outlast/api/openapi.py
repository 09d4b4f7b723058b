"""Makes the OpenAPI 3.1 document from the route table and the schemas."""

import inspect
import re
from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from outlast.api.errors import ERROR_SPECS, INTERNAL, INTERRUPTED, UNAUTHORIZED
from outlast.api.route import Answer, Route
from outlast.api.schemas import (
    fields,
    login,
    managed_responses,
    process_fields,
    projects,
    responses,
    terminal_responses,
)
from outlast.api.schemas.managed import HealthCheckBody, RestartBody
from outlast.api.schemas.moments import MomentField
from outlast.api.schemas.processes import PutBody, RunBody, StartBody
from outlast.api.schemas.projects import NAME_FORM
from outlast.api.schemas.sessions import SessionBody
from outlast.api.schemas.terminal_fields import TerminalBody
from outlast.model import errors

_INTRODUCTION = """\
Starts, watches and signals background processes over HTTP, and keeps every line they print.

Send the token with every request: `Authorization: Bearer TOKEN`.

`{ref}` in a path is the pid, the permanent `id`, the name or the handle of a process. A reference of digits only is a
pid: it finds the newest process that had the pid. `@` and digits, such as `@12`, is a handle, which is as permanent as
the id: no other process ever gets it, not even after a purge. A name finds the live process that has the name, or else
the newest process that had it.

Times are integers: milliseconds since the Unix epoch.

Every error is a JSON object such as `{"error": "there is no process 'web'", "code": "NOT_FOUND"}`. Decide by `code`;
the sentence in `error` is for people, and may change.

Every GET answers HEAD, too. Bodies are sent as they are, without `Content-Encoding`.
"""

_ANSWERS = (responses, managed_responses, terminal_responses, projects, login)
"""Modules with the schemas of answers."""

_PLACES = [
    {"name": name, "in": "path", "required": True, "description": description, "schema": {"type": "string"}}
    for name, description in {
        "ref": "Pid, permanent id, name or handle (`@12`) of a process.",
        "session": "Id of a session: of the process in the terminal.",
        "project": f"Name of a project. It {NAME_FORM}.",
        "namespace": "Any word.",
        "sandbox": "Id of the sandbox, `local`.",
    }.items()
]
"""Parameters in paths."""


def make_document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Return the OpenAPI document of `routes` as a JSON-ready dictionary."""
    plugin = MarshmallowPlugin()
    spec = APISpec(
        title="Outlast",
        version=version,
        openapi_version="3.1.0",
        plugins=[plugin],
        info={"description": _INTRODUCTION},
        security=[{"bearer": []}, {"basic": []}],
    )
    converter = plugin.converter
    if converter is None:
        raise RuntimeError("apispec has not set up its converter")
    for field, kind in (
        (fields.Choice, "string"),
        (process_fields.User, None),
        (process_fields.SignalNumber, None),
        (process_fields.TagFilters, "array"),
        (MomentField, None),
        (fields.Seconds, "number"),
        (fields.QuerySeconds, "number"),
    ):
        converter.map_to_openapi_type(field, kind, None)  # type: ignore[no-untyped-call]
    spec.components.security_scheme(
        "bearer", {"type": "http", "scheme": "bearer", "description": "The token of the daemon."}
    )
    spec.components.security_scheme(
        "basic",
        {"type": "http", "scheme": "basic", "description": "Any user name, with the token as the password."},
    )
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in routes:
        if route.documented:
            paths[route.path][route.method.lower()] = _operation(route, converter)
    for path, operations in paths.items():
        spec.path(path=path, operations=operations)
    document = spec.to_dict()
    bodies = (StartBody, RunBody, PutBody, RestartBody, HealthCheckBody, TerminalBody, SessionBody)
    lenient = {body.__name__ for body in bodies}
    for name, schema in document["components"]["schemas"].items():
        if answer := next((getattr(one, name) for one in _ANSWERS if hasattr(one, name)), None):
            schema["description"] = inspect.getdoc(answer)
        if name in lenient:
            del schema["additionalProperties"]
    return document


def _operation(route: Route, converter: Any) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.group],
        "parameters": [
            *(one for one in _PLACES if f"{{{one['name']}}}" in route.path),
            *converter.schema2parameters(route.query(), location="query"),
            *(
                {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
                for name, description in route.headers.items()
            ),
        ],
        "responses": _responses(route),
    }
    if route.description:
        operation["description"] = route.description
    if route.body is not None:
        content_type = route.body_type if isinstance(route.body, str) else "application/json"
        is_json = isinstance(route.body, type)  # of raw bytes, there may be none
        operation["requestBody"] = {"required": is_json, "content": {content_type: _media(route.body)}}
    return operation


def _operation_id(route: Route) -> str:
    path = re.sub(r"{(ref|session|project)}", "one", route.path.replace("/api/v1", ""))
    words = path.replace(".", "_").strip("/").split("/")
    return "_".join([route.method.lower(), *words])


def _responses(route: Route) -> dict[str, Any]:
    successes = [route.answer] if route.other_answer is None else [route.answer, route.other_answer]
    specs = [
        UNAUTHORIZED,
        ERROR_SPECS[errors.Forbidden],
        ERROR_SPECS[errors.InvalidRequest],
        INTERNAL,
        ERROR_SPECS[errors.Unavailable],
    ]
    if route.method != "GET":
        specs.append(INTERRUPTED)
    if isinstance(route.body, type):
        specs.append(ERROR_SPECS[errors.TooLarge])
    specs.extend(ERROR_SPECS[error] for error in route.raises)
    by_status: dict[HTTPStatus, list[str]] = defaultdict(list)
    for spec in specs:
        by_status[spec.status].append(f"`{spec.code}`: {spec.meaning}")
    return {
        **{str(answer.status.value): _success(answer) for answer in successes},
        **{
            str(status.value): {
                "description": "\n\n".join(meanings),
                "content": {"application/json": {"schema": responses.Error}},
            }
            for status, meanings in sorted(by_status.items())
        },
    }


def _success(answer: Answer) -> dict[str, Any]:
    success: dict[str, Any] = {"description": answer.meaning}
    if answer.content:
        success["content"] = {name: _media(schema) for name, schema in answer.content.items()}
    if answer.headers:
        success["headers"] = {
            name: {"description": description, "schema": {"type": "string"}}
            for name, description in answer.headers.items()
        }
    return success


def _media(schema: type[Schema] | str) -> dict[str, Any]:
    if isinstance(schema, str):
        return {"schema": {"description": schema}}
    example = getattr(schema, "example", None)
    return {"schema": schema} if example is None else {"schema": schema, "example": example}
