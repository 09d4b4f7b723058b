"""What all schemas of requests have in common."""

from marshmallow import Schema


class Strict(Schema):
    """Base of all: it refuses what it does not know, in phrases that read on from a field's name."""

    error_messages = {
        "unknown": "is not known here, leave it out",
        "type": "must be a JSON object",
    }
