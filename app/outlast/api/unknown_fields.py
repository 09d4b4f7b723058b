"""Unknown fields of a start: those of newer clients are passed over, mistyped names are refused."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

from marshmallow import Schema
from marshmallow import fields as ma_fields

from outlast.api.schemas.base import Lenient
from outlast.model.errors import InvalidRequest

MAX_UNKNOWN = 32
"""Maximum number of unknown fields of one object: comparing names takes time."""

MAX_NAME_CHARS = 64
"""Maximum number of characters of an unknown name that a warning quotes; a longer one is near no known one."""

_NEAR = 0.75  # one wrong letter in four, such as `nane`
_UNIT = re.compile(r"_(ms|s|secs?|seconds|bytes|kb|mb)$")


def translate(schema: Schema, given: dict[str, Any]) -> dict[str, Any]:
    """Return `given` with the names that `schema` uses, where clients use another name for the same field.

    Raises:
        InvalidRequest: a field is given by both names.
    """
    aliases = schema.aliases if isinstance(schema, Lenient) else {}
    for alias, name in aliases.items():
        if alias in given and name in given:
            raise InvalidRequest(f"{alias} is the same as {name}: give one of them")
    return {aliases.get(name, name): value for name, value in given.items()}


def pass_over(schema: Schema, given: dict[str, Any], path: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return `given` without the unknown fields that `schema` passes over, and a warning for each of them.

    Raises:
        InvalidRequest: the name of an unknown field is near that of a known one, or there are too many of them.
    """
    if not isinstance(schema, Lenient):
        return given, []
    unknown = [name for name in given if name not in schema.fields]
    if len(unknown) > MAX_UNKNOWN:
        raise InvalidRequest(f"there are {len(unknown)} unknown fields: at most {MAX_UNKNOWN} are passed over")
    warnings = []
    for name in unknown:
        near = _find_near(name, schema.declared_fields)
        if near is not None:
            hint = "" if near == name else f"; did you mean {path}{near}?"
            raise InvalidRequest(f"unknown field: {path}{name}{hint}")
        warnings.append(f"unknown field {path}{name[:MAX_NAME_CHARS]} was passed over")
    known = {name: value for name, value in given.items() if name in schema.fields}
    for name, value in known.items():
        field = schema.fields[name]
        if isinstance(field, ma_fields.Nested) and isinstance(value, dict):
            known[name], more = pass_over(field.schema, value, f"{path}{name}.")
            warnings += more
    return known, warnings


def _find_near(name: str, known: Iterable[str]) -> str | None:
    if len(name) > MAX_NAME_CHARS:
        return None
    given = _plain(name)
    plain = {_plain(other): other for other in known}
    # Swapped letters count more against a short name than difflib allows for.
    found = [other for other in plain if sorted(other) == sorted(given)]
    found += difflib.get_close_matches(given, plain, n=1, cutoff=_NEAR)
    return plain[found[0]] if found else None


def _plain(name: str) -> str:
    """Return a name without what people write in different ways: case, separators, units."""
    return _UNIT.sub("", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()).replace("_", "").replace("-", "")
