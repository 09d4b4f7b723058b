"""Base classes of the schemas of requests."""

from collections.abc import Mapping

from marshmallow import INCLUDE, Schema

from outlast.api.parsing import UNKNOWN_FIELD


class Strict(Schema):
    """A schema that rejects unknown fields. Its error messages are phrases that follow the name of a field."""

    error_messages = {
        "unknown": UNKNOWN_FIELD,
        "type": "must be a JSON object",
    }


class Lenient(Strict):
    """A schema whose requests may have unknown fields (`outlast.api.unknown_fields`); on its own it is as strict.

    Attributes:
        aliases: names that clients use for fields of the schema.
    """

    aliases: Mapping[str, str] = {}


class NoQuery(Strict):
    """The query string of a call without parameters."""


class AnyQuery(Strict):
    """The query string of the web page: only its script reads it, so every field passes."""

    class Meta:
        """Options of marshmallow."""

        unknown = INCLUDE
