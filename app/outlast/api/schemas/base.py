"""Base classes of the schemas of requests."""

from marshmallow import Schema

from outlast.api.parsing import UNKNOWN_FIELD


class Strict(Schema):
    """A schema that rejects unknown fields. Its error messages are phrases that follow the name of a field."""

    error_messages = {
        "unknown": UNKNOWN_FIELD,
        "type": "must be a JSON object",
    }


class NoQuery(Strict):
    """The query string of a call without parameters."""
