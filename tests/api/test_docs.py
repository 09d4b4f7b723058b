import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from outlast.api.errors import ERROR_SPECS
from outlast.api.openapi import make_document
from outlast.api.routes import ROUTES
from outlast.api.schemas.lists import ListQuery
from outlast.api.schemas.output import FollowQuery, OutputRange
from outlast.api.schemas.processes import SignalBody, StartBody

from .server import Server

DOCUMENT = json.loads(json.dumps(make_document(ROUTES, "1.2.3")))
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
TYPES = {"string", "integer", "number", "boolean", "array", "object", "null"}
OPERATIONS = [
    (path, method, operation) for path, methods in DOCUMENT["paths"].items() for method, operation in methods.items()
]


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from walk(inner)


def resolve(reference: str) -> Any:
    assert reference.startswith("#/")
    found: Any = DOCUMENT
    for step in reference[2:].split("/"):
        found = found[step]
    return found


def test_the_document_lists_exactly_the_documented_routes() -> None:
    told = {(method.upper(), path) for path, method, _ in OPERATIONS}
    assert told == {(route.method, route.path) for route in ROUTES if route.documented}
    assert {route.path for route in ROUTES if not route.documented} == {
        "/docs/{file}",
        "/web/{build}/{file:.+}",
    }


def test_the_document_has_the_structure_of_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert DOCUMENT["info"]["title"]
    assert DOCUMENT["info"]["version"] == "1.2.3"
    assert set(DOCUMENT) <= {"openapi", "info", "paths", "components", "security", "tags"}
    assert {name for one in DOCUMENT["security"] for name in one} == set(DOCUMENT["components"]["securitySchemes"])
    assert len({operation["operationId"] for _, _, operation in OPERATIONS}) == len(OPERATIONS)
    for node in walk(DOCUMENT):
        if isinstance(node.get("$ref"), str):
            assert resolve(node["$ref"])


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_each_operation_is_complete(path: str, method: str, operation: dict[str, Any]) -> None:
    assert method in METHODS
    assert operation["summary"]
    assert operation["tags"]
    parameters = operation["parameters"]
    assert {p["name"] for p in parameters if p["in"] == "path"} == set(re.findall(r"{(\w+)}", path))
    assert len({(p["name"], p["in"]) for p in parameters}) == len(parameters)
    for parameter in parameters:
        assert parameter["schema"]
        assert parameter["description"]
        assert parameter["in"] != "path" or parameter["required"] is True
    statuses = set(operation["responses"])
    two = {
        ("post", "/api/v1/processes"): {"201", "200"},
        ("delete", "/api/v1/processes/{ref}"): {"204", "202"},
        ("delete", "/api/v1/projects/{project}"): {"204", "202"},
    }
    expected = {"200", "204"} if path.endswith("/follow") else two.get((method, path), {min(statuses)})
    assert {status for status in statuses if status[0] in "123"} == expected
    assert {"400", "401", "403", "500", "503"} <= statuses
    for response in operation["responses"].values():
        assert response["description"]
    if "requestBody" in operation:
        assert all(media["schema"] for media in operation["requestBody"]["content"].values())


def test_schemas_are_those_of_json_schema_2020() -> None:
    for node in walk(DOCUMENT["components"]["schemas"]):
        assert "nullable" not in node
        kind = node.get("type")
        if isinstance(kind, (str, list)):
            assert set([kind] if isinstance(kind, str) else kind) <= TYPES


def test_the_document_tells_all_fields_that_are_accepted() -> None:
    start = DOCUMENT["components"]["schemas"]["StartBody"]
    assert set(start["properties"]) == set(StartBody().fields)
    assert start["required"] == ["command"]
    assert "additionalProperties" not in start  # those that are near no known name are passed over
    assert set(DOCUMENT["components"]["schemas"]["SignalBody"]["properties"]) == set(SignalBody().fields)
    for path, schema in (
        ("/api/v1/processes", ListQuery),
        ("/api/v1/processes/{ref}/output", OutputRange),
        ("/api/v1/processes/{ref}/output/follow", FollowQuery),
    ):
        parameters = DOCUMENT["paths"][path]["get"]["parameters"]
        assert {p["name"] for p in parameters if p["in"] == "query"} == set(schema().fields)


def test_each_error_code_is_documented() -> None:
    text = json.dumps(DOCUMENT)
    assert {shape.code for shape in ERROR_SPECS.values() if f"`{shape.code}`" not in text} == set()
    errors = DOCUMENT["paths"]["/api/v1/processes"]["post"]["responses"]
    assert "SPAWN_FAILED" in errors["422"]["description"]
    assert "TOO_LARGE" in errors["413"]["description"]


def test_the_document_says_that_environments_are_stored_encrypted() -> None:
    env = DOCUMENT["components"]["schemas"]["StartBody"]["properties"]["env"]["description"]
    assert "stored encrypted" in env
    assert "returned, logged or stored" not in json.dumps(DOCUMENT)


def test_the_document_says_that_a_name_addresses_a_process() -> None:
    refs = [
        parameter["description"]
        for _, _, operation in OPERATIONS
        for parameter in operation["parameters"]
        if parameter["name"] == "ref"
    ]
    assert refs
    for text in (*refs, DOCUMENT["info"]["description"]):
        assert "name" in text


def test_every_field_is_described() -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in DOCUMENT["components"]["schemas"].items()
        for field, meaning in schema["properties"].items()
        if "description" not in meaning
    ]
    assert bare == []


def test_examples_of_bodies_are_accepted() -> None:
    examples = {
        route.path: route.body.example
        for route in ROUTES
        if isinstance(route.body, type) and hasattr(route.body, "example")
    }
    assert set(examples) == {route.path for route in ROUTES if isinstance(route.body, type)}
    for route in ROUTES:
        if isinstance(route.body, type):
            assert route.body().validate(examples[route.path]) == {}
            body = DOCUMENT["paths"][route.path][route.method.lower()]["requestBody"]
            assert body["content"]["application/json"]["example"] == examples[route.path]


async def test_the_page_loads_nothing_from_other_hosts(server: Server) -> None:
    page = await server.ask("GET", "/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    text = page.body.decode()
    assert "://" not in text
    assert not re.search(r"<script(?![^>]*\bsrc=)|\bon\w+=|<style|\bstyle=", text)
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "http" not in policy
    files = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert len(files) == 4
    for file in files:
        answer = await server.ask("GET", f"/{file}")
        assert answer.status == 200
        assert answer.body
        assert answer.headers["Content-Security-Policy"] == policy


async def test_the_document_is_served(server: Server) -> None:
    answer = await server.ask("GET", "/api/v1/openapi.json")
    assert answer.json == DOCUMENT
