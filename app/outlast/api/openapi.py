"""The API's document (OpenAPI 3.1), made from the route table and the schemas."""

from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from outlast.api.errors import ERROR_SPECS, ErrorSpec
from outlast.api.route import Answer, Route
from outlast.api.schemas import fields, responses
from outlast.model import errors

_INTRODUCTION = """\
Starts, watches and signals background processes, and keeps every line they print.

`{ref}` in a path is the pid, the permanent `id` or the name of a process. A reference of digits only is a pid: it finds
the newest process that had the pid. A name finds the live process that has the name, or else the newest process that
had it.

Times are integers: milliseconds since the Unix epoch.

Every error is a JSON object such as `{"error": "there is no process 'web'", "code": "NOT_FOUND"}`. Decide by `code`;
the sentence in `error` is for people, and may change.
"""

_REF = {
    "name": "ref",
    "in": "path",
    "required": True,
    "description": "Pid, permanent id or name of a process.",
    "schema": {"type": "string"},
}
_UNAUTHORIZED = ErrorSpec(HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "The token is missing or wrong.")
_INTERNAL = ErrorSpec(HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", "Something went wrong in the daemon.")


def make_document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """Make the document as a JSON-ready dictionary."""
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
        raise RuntimeError("apispec sets a converter up with the document")
    for field, kind in (
        (fields.Choice, "string"),
        (fields.User, None),
        (fields.SignalNumber, None),
        (fields.TagFilters, "array"),
        (fields.Seconds, "number"),
        (fields.QuerySeconds, "number"),
    ):
        converter.map_to_openapi_type(field, kind, None)  # type: ignore[no-untyped-call]
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    spec.components.security_scheme(
        "basic",
        {"type": "http", "scheme": "basic", "description": "Any user name; the token is the password."},
    )
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in routes:
        if route.documented:
            paths[route.path][route.method.lower()] = _operation(route, converter)
    for path, operations in paths.items():
        spec.path(path=path, operations=operations)
    return spec.to_dict()


def _operation(route: Route, converter: Any) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.group],
        "parameters": [
            *([_REF] if "{ref}" in route.path else []),
            *converter.schema2parameters(route.query(), location="query"),
            *(
                {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
                for name, description in route.headers
            ),
        ],
        "responses": _responses(route),
    }
    if route.description:
        operation["description"] = route.description
    if route.body is not None:
        content_type = "application/octet-stream" if isinstance(route.body, str) else "application/json"
        operation["requestBody"] = {"required": True, "content": {content_type: _media(route.body)}}
    return operation


def _operation_id(route: Route) -> str:
    words = route.path.replace("/api/v1", "").replace("{ref}", "one").replace(".", "_").strip("/").split("/")
    return "_".join([route.method.lower(), *words])


def _responses(route: Route) -> dict[str, Any]:
    successes = [route.answer] if route.other_answer is None else [route.answer, route.other_answer]
    shapes = [
        _UNAUTHORIZED,
        ERROR_SPECS[errors.Forbidden],
        ERROR_SPECS[errors.InvalidRequest],
        _INTERNAL,
        ERROR_SPECS[errors.Unavailable],
    ]
    if isinstance(route.body, type):
        shapes.append(ERROR_SPECS[errors.TooLarge])
    shapes.extend(ERROR_SPECS[error] for error in route.raises)
    by_status: dict[HTTPStatus, list[str]] = defaultdict(list)
    for shape in shapes:
        by_status[shape.status].append(f"`{shape.code}`: {shape.meaning}")
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
        success["content"] = {name: _media(shape) for name, shape in answer.content.items()}
    return success


def _media(shape: type[Schema] | str) -> dict[str, Any]:
    if isinstance(shape, str):
        return {"schema": {"description": shape}}
    return {"schema": shape}
