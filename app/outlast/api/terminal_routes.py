"""The part of the route table that is about terminals."""

from http import HTTPStatus

from outlast.api.handlers import pty, recording
from outlast.api.route import Answer, Route, done
from outlast.api.schemas import processes as process_schemas
from outlast.api.schemas import sessions as session_schemas
from outlast.api.schemas import terminal_responses as responses
from outlast.model.errors import InvalidToken, NotFound, SessionNotFound, SpawnFailed, TooManySessions

_JSON = "application/json"
_SESSIONS = "/api/v1/pty"
_SESSION = f"{_SESSIONS}/{{session}}"
_PROCESS = "/api/v1/processes/{ref}"

TERMINAL_ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path=_SESSIONS,
        call=pty.create,
        changes=True,
        summary="Start a program in a terminal",
        group="Terminals",
        description="The session is a process with `tty`: all other calls work on it, by `session_id`. It runs on "
        "without clients.",
        query=process_schemas.StartQuery,
        body=session_schemas.SessionBody,
        answer=Answer(
            status=HTTPStatus.CREATED,
            meaning="The program runs. The token is told this once.",
            content={_JSON: responses.CreatedSession},
        ),
        raises=(TooManySessions, SpawnFailed),
    ),
    Route(
        method="GET",
        path=_SESSIONS,
        call=pty.list_sessions,
        summary="List terminals",
        group="Terminals",
        description="Of all processes with a terminal, those that run, and those that ended within the last minute.",
        answer=Answer(meaning="The sessions, oldest first.", content={_JSON: responses.SessionList}),
    ),
    Route(
        method="GET",
        path=_SESSION,
        call=pty.show,
        summary="Show a terminal",
        group="Terminals",
        answer=Answer(meaning="The session.", content={_JSON: responses.SessionInfo}),
        raises=(NotFound,),
    ),
    Route(
        method="POST",
        path=f"{_SESSION}/resize",
        call=pty.resize,
        changes=True,
        summary="Change the size of a terminal",
        group="Terminals",
        body=session_schemas.ResizeBody,
        answer=done("The terminal has the size, and its program got SIGWINCH."),
        raises=(NotFound,),
    ),
    Route(
        method="DELETE",
        path=_SESSION,
        call=pty.delete,
        changes=True,
        summary="Hang a terminal up",
        group="Terminals",
        description="Returns at once. The program gets SIGHUP, and everything that it started SIGKILL when the program "
        "has ended, or after 5 s. The session is gone after its end; the process stays.",
        answer=done("The terminal is being hung up, or its program has ended."),
        raises=(NotFound,),
    ),
    Route(
        method="POST",
        path=f"{_SESSION}/tickets",
        call=pty.make_ticket,
        summary="Make a ticket for a page that attaches",
        group="Terminals",
        description="A page in a browser can send no header with a websocket. Who has the token makes a ticket for it, "
        "which opens one websocket within 60 s, by a page of `origin` only.",
        body=session_schemas.TicketBody,
        answer=Answer(status=HTTPStatus.CREATED, meaning="The ticket.", content={_JSON: responses.Ticket}),
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        path=f"{_SESSION}/ws",
        call=pty.attach,
        summary="Attach to a terminal by a websocket",
        group="Terminals",
        description="Each message is binary, and its first byte is its kind; numbers are big-endian. The client sends "
        "byte 0 and what is typed, byte 1 and its columns and rows (2 bytes each), and byte 2 when it is ready for "
        "output. The server sends byte 0 and output, and at the end byte 3 and the exit code (4 bytes; the negative "
        "number of the signal that ended the program). A client is first sent what shows the screen, then all that "
        "comes. Any number of clients see and type; the terminal has the size of the one that typed or changed its "
        "size last. Close codes: 1000 `exit:N`; 1001 `session terminated`, if nobody knows how the program ended; 1012 "
        "when the daemon stops: connect again.",
        query=session_schemas.AttachQuery,
        headers={pty.TOKEN_HEADER: "Token of the session."},
        answer=Answer(status=HTTPStatus.SWITCHING_PROTOCOLS, meaning="What follows is a websocket.", content={}),
        raises=(SessionNotFound, InvalidToken),
    ),
    Route(
        method="GET",
        path=f"{_PROCESS}/recording",
        call=recording.recording,
        summary="Get the recording of a terminal",
        group="Terminals",
        description="What the terminal has shown, with its times and sizes, for players of asciicast files. What was "
        "typed is not recorded, except where the terminal showed it.",
        query=session_schemas.RecordingQuery,
        answer=Answer(
            meaning="The recording.", content={recording.CONTENT_TYPE: "An asciicast file: an object, then arrays."}
        ),
        raises=(NotFound,),
    ),
)
