"""The base of all schemas of what calls accept."""

from marshmallow import Schema


class Strict(Schema):
    """It refuses what it does not know, in phrases that read on from a field's name."""

    error_messages = {
        "unknown": "is not known here, leave it out",
        "type": "must be a JSON object",
    }


class NoQuery(Strict):
    """No parameters."""
