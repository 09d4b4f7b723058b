"""Fields of answers: each is there in every answer, and has a description."""

from typing import Any

from marshmallow import fields


def integer(description: str, **kwargs: Any) -> fields.Integer:
    """Return the field of an integer."""
    return fields.Integer(required=True, strict=True, metadata={"description": description}, **kwargs)


def string(description: str, **kwargs: Any) -> fields.String:
    """Return the field of a string."""
    return fields.String(required=True, metadata={"description": description}, **kwargs)


def flag(description: str) -> fields.Boolean:
    """Return the field of a boolean."""
    return fields.Boolean(required=True, metadata={"description": description})
