"""Schemas of the answers about terminals, for the OpenAPI document. See `responses`."""

from marshmallow import Schema, fields

from outlast.api.schemas.answer_fields import flag, integer, string


class TerminalSize(Schema):
    """Size of a terminal."""

    rows = integer("Height.")
    cols = integer("Width.")


class CreatedSession(Schema):
    """A terminal that was created."""

    session_id = string("Id of the session, and of its process.")
    token = string("Token with which clients attach. It is not told again.")
    warnings = fields.List(
        fields.String(), metadata={"description": "What was passed over in the request. Left out if there is nothing."}
    )


class SessionInfo(Schema):
    """A terminal and its program."""

    session_id = string("Id of the session, and of its process.")
    pid = integer("Operating-system pid of the program.")
    command = string("Program.")
    args = fields.List(fields.String(), required=True, metadata={"description": "Arguments of the program."})
    rows = integer("Height of the terminal now.")
    cols = integer("Width of the terminal now.")
    created_at = integer("Time of the start.")
    is_alive = flag("Whether the program runs.")
    ended_at = integer("Time of the end; null while it runs.", allow_none=True)
    exit_code = integer(
        "Exit code, or the negative number of the signal that ended the program; null while it runs, and if nobody "
        "knows.",
        allow_none=True,
    )
    oom_killed = fields.Boolean(
        metadata={"description": "True if the kernel killed the program because memory ran out; else left out."}
    )


class SessionList(Schema):
    """Terminals."""

    sessions = fields.List(
        fields.Nested(SessionInfo), required=True, metadata={"description": "The sessions, oldest first."}
    )


class Ticket(Schema):
    """A ticket with which one page attaches, once."""

    ticket = string("The ticket.")
    path = string("Path and query string of the websocket that the page opens.")
    expires_at = integer("When the ticket expires: 60 s after it was made.")
