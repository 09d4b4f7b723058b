"""Writes docs/http-api.md and docs/errors.md from the OpenAPI document and the table of errors: `make docs`."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from outlast.api.errors import ALL_SPECS
from outlast.api.openapi import make_document
from outlast.api.routes import ROUTES

DOCS = Path(__file__).parent.parent / "docs"
COMMON_CODES = ("INVALID_REQUEST", "UNAUTHORIZED", "FORBIDDEN", "INTERNAL", "UNAVAILABLE")
"""Codes that every call can answer with."""

BODY_CODE = "TOO_LARGE"
"""The code that every call with a JSON body can answer with."""

MAX_EXACT = 2**53 - 1
_NOTE = "<!-- Made by `make docs` from app/outlast/api; do not edit. -->"

Json = dict[str, Any]


class HttpReference:
    """The page that describes every call of an OpenAPI document."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._schemas: Mapping[str, Json] = document["components"]["schemas"]

    def page(self) -> str:
        """Return the page as Markdown."""
        parts = [_NOTE, "# HTTP reference", self._document["info"]["description"].strip(), _COMMON]
        groups = self._groups()
        parts.append("## Calls")
        for group, calls in groups.items():
            rows = [
                (f"[`{method}` `{path}`](#{_anchor(_title(call))})", _cell(operation["summary"]))
                for call in calls
                for method, path, operation in call
            ]
            parts += [f"**{group}**", _table(("call", "what it does"), rows)]
        for group, calls in groups.items():
            parts.append(f"## {group}")
            for call in calls:
                parts += self._call(call)
        parts += ["## Objects", "Answers are made of these objects."]
        for name in self._answered():
            parts += [f"### {name}", self._schemas[name].get("description", ""), self._fields(self._schemas[name])]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _groups(self) -> dict[str, list[list[tuple[str, str, Json]]]]:
        """Return the calls by group. Calls that differ by their path and summary only are described together."""
        groups: dict[str, list[list[tuple[str, str, Json]]]] = {}
        alike: dict[str, list[tuple[str, str, Json]]] = {}
        for path, operations in self._document["paths"].items():
            for method, operation in operations.items():
                key = json.dumps([method, *(operation.get(name) for name in ("tags", "parameters", "requestBody"))])
                key += json.dumps([operation["responses"], operation.get("description")])
                calls = groups.setdefault(operation["tags"][0], [])
                if key not in alike or operation["tags"] == ["Daemon"]:
                    alike[key] = []
                    calls.append(alike[key])
                alike[key].append((method.upper(), path, operation))
        return groups

    def _call(self, call: list[tuple[str, str, Json]]) -> Iterator[str]:
        operation = call[0][2]
        yield f"### {_title(call)}"
        if len(call) > 1:
            yield "\n".join(f"- `{method} {path}`: {told['summary']}." for method, path, told in call)
        else:
            yield f"`{call[0][0]} {call[0][1]}`"
        yield operation.get("description", "")
        parameters = sorted(operation["parameters"], key=lambda parameter: not parameter.get("required"))
        if parameters:
            rows = [
                (
                    f"`{parameter['name']}`",
                    parameter["in"] + (", required" if parameter.get("required") else ""),
                    self._type(parameter["schema"]),
                    _default(parameter["schema"]),
                    _cell(parameter["description"]),
                )
                for parameter in parameters
            ]
            yield _table(("parameter", "where", "type", "default", "meaning"), rows)
        if "requestBody" in operation:
            yield from self._body(operation["requestBody"]["content"])
        yield from self._answers(operation["responses"])

    def _body(self, content: Json) -> Iterator[str]:
        for content_type, media in content.items():
            schema = media["schema"]
            if "$ref" not in schema:
                yield f"Body (`{content_type}`): {schema['description']}"
                continue
            yield f"Body (`{content_type}`):"
            yield self._fields(self._resolve(schema))
            if "example" in media:
                yield f"Example:\n\n```json\n{json.dumps(media['example'])}\n```"

    def _answers(self, responses: Json) -> Iterator[str]:
        answers = []
        codes = []
        for status, response in responses.items():
            if status[0] in "23":
                answers.append(f"- **{status}**: {response['description']}")
                answers += [
                    f"  - `{content_type}`: {self._media(media['schema'])}"
                    for content_type, media in response.get("content", {}).items()
                ]
            else:
                codes += re.findall(r"`([A-Z_]+)`: ", response["description"])
        yield "Answers:"
        yield "\n".join(answers)
        own = [_code_link(code) for code in codes if code not in (*COMMON_CODES, BODY_CODE)]
        yield f"Errors of this call: {', '.join(own)}." if own else ""

    def _media(self, schema: Json) -> str:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        return str(schema["description"])

    def _fields(self, schema: Json) -> str:
        return _table(("field", "type", "default", "meaning"), self._field_rows(schema, ""))

    def _field_rows(self, schema: Json, prefix: str) -> Iterator[tuple[str, ...]]:
        required = set(schema.get("required", ())) if schema.get("additionalProperties") is False else set()
        is_answer = required == set(schema["properties"])
        for name, field in schema["properties"].items():
            type_ = self._type(field) + (", required" if name in required and not is_answer else "")
            yield f"`{prefix}{name}`", type_, _default(field), _cell(field.get("description", ""))
            nested = self._nested(field)
            if nested is not None and nested.endswith("Body"):
                yield from self._field_rows(self._schemas[nested], f"{prefix}{name}.")

    def _type(self, schema: Json) -> str:
        nested = self._nested(schema)
        if nested is not None:
            what = "object" if nested.endswith("Body") else f"[{nested}](#{nested.lower()})"
            return f"{what} or null" if "anyOf" in schema else what
        if "enum" in schema:
            return " or ".join("null" if value is None else f"`{value}`" for value in schema["enum"])
        if "anyOf" in schema:
            types = dict.fromkeys(self._type(form) for form in schema["anyOf"])
            return " or ".join(types)
        types = schema.get("type", "any value")
        names = [types] if isinstance(types, str) else types
        return " or ".join(self._type_name(name, schema) for name in names).replace(" or null", ", or null")

    def _type_name(self, name: str, schema: Json) -> str:
        if name == "array":
            return f"array of {self._type(schema['items'])}" if schema.get("items") else "array"
        if name in ("integer", "number"):
            low, high = schema.get("minimum"), schema.get("maximum")
            if high is not None and high < MAX_EXACT:
                return f"{name} from {low:.15g} to {high:.15g}"
            return f"{name} from {low:.15g}" if low else name
        return name

    def _nested(self, schema: Json) -> str | None:
        forms = [schema, *schema.get("anyOf", ())]
        found = next((form["$ref"] for form in forms if "$ref" in form), None)
        return found.rpartition("/")[2] if found else None

    def _resolve(self, schema: Json) -> Json:
        return self._schemas[schema["$ref"].rpartition("/")[2]]

    def _answered(self) -> list[str]:
        return [name for name in self._schemas if not name.endswith("Body")]


def _code_link(code: str) -> str:
    return f"[`{code}`](errors.md#{code.lower()})"


_COMMON = (
    f"Every call can answer with the errors {', '.join(map(_code_link, COMMON_CODES))}; a call with a JSON body also "
    f"with {_code_link(BODY_CODE)}. They are not repeated below. [errors.md](errors.md) lists all error codes.\n\n"
    "The daemon serves this reference as a page at `/docs`, which can also send requests, and as an OpenAPI 3.1 "
    "document at `/api/v1/openapi.json`."
)


_ERRORS = (
    "Every error is a JSON object with `error`, one sentence for people, and `code`, for programs. Decide by `code`: "
    "the sentence may change. `SPAWN_FAILED` also has `errno`, the error number of the kernel. "
    "[http-api.md](http-api.md) names the codes of each call."
)


def errors_page() -> str:
    """Return the page that lists the error codes as Markdown."""
    parts = [
        _NOTE,
        "# Error codes",
        _ERRORS,
        _table(
            ("code", "status"),
            [(f"[`{spec.code}`](#{spec.code.lower()})", str(spec.status.value)) for spec in _SORTED],
        ),
    ]
    for spec in _SORTED:
        parts += [f"## {spec.code}", f"Status {spec.status.value}. {spec.meaning}", f"What to do: {spec.advice}"]
    return "\n\n".join(parts) + "\n"


_SORTED = sorted(ALL_SPECS, key=lambda spec: (spec.status, spec.code))


def pages() -> dict[Path, str]:
    """Return the text of each generated page."""
    document = json.loads(json.dumps(make_document(ROUTES, "")))
    return {DOCS / "http-api.md": HttpReference(document).page(), DOCS / "errors.md": errors_page()}


def _title(call: list[tuple[str, str, Json]]) -> str:
    summary: str = call[0][2]["summary"]
    return summary.partition(":")[0] if len(call) > 1 else summary


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-")


def _default(schema: Json) -> str:
    value = schema.get("default")
    if value is None:
        return ""
    return f"`{value:g}`" if isinstance(value, float) else f"`{json.dumps(value).strip(chr(34))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _table(head: tuple[str, ...], rows: "Iterator[tuple[str, ...]] | list[Any]") -> str:
    rows = list(rows)
    # A column that is empty everywhere says nothing.
    kept = [index for index in range(len(head)) if any(row[index] for row in rows)]
    lines = [[head[index] for index in kept], ["---" for _ in kept], *([row[index] for index in kept] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
