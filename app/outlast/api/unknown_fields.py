"""Unknown fields of a start: those of newer clients are passed over, mistyped names are refused."""

from typing import Any

from marshmallow import Schema
from marshmallow import fields as ma_fields

from outlast.api.near_names import MAX_NAME_CHARS, find_near, hint
from outlast.api.schemas.base import Lenient
from outlast.model.errors import InvalidRequest

MAX_UNKNOWN = 32
"""Maximum number of unknown fields of one object: comparing names takes time."""


def translate(schema: Schema, given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return `given` with the names that `schema` uses, and which other name the client used for which of them.

    Raises:
        InvalidRequest: a field is given by both names.
    """
    aliases = schema.aliases if isinstance(schema, Lenient) else {}
    for alias, name in aliases.items():
        if alias in given and name in given:
            raise InvalidRequest(f"{alias} is the same as {name}: give one of them")
    used = {aliases[alias]: alias for alias in given if alias in aliases}
    return {aliases.get(name, name): value for name, value in given.items()}, used


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
        near = find_near(name, schema.declared_fields)
        if near is not None:
            meant = "" if near == name else hint(f"{path}{near}")
            raise InvalidRequest(f"unknown field: {path}{name}{meant}")
        warnings.append(f"unknown field {path}{name[:MAX_NAME_CHARS]} was passed over")
    known = {name: value for name, value in given.items() if name in schema.fields}
    for name, value in known.items():
        field = schema.fields[name]
        if isinstance(field, ma_fields.Nested) and isinstance(value, dict):
            known[name], more = pass_over(field.schema, value, f"{path}{name}.")
            warnings += more
    return known, warnings
