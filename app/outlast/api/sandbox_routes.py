"""The part of the route table for clients that manage sandboxes."""

from http import HTTPStatus

from outlast.api.handlers import sandboxes, tunnel
from outlast.api.route import Answer, Route, done
from outlast.api.schemas import sandboxes as schemas
from outlast.model.errors import NotFound

_JSON = "application/json"
_SANDBOXES = "/v1/namespaces/{namespace}/sandboxes"
_SANDBOX = f"{_SANDBOXES}/{{sandbox}}"

SANDBOX_ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/platform/v1/keys/introspect",
        call=sandboxes.introspect,
        summary="Check a token",
        group="Sandboxes",
        answer=Answer(meaning="The token is right.", content={_JSON: schemas.Key}),
    ),
    Route(
        method="GET",
        path=_SANDBOXES,
        call=sandboxes.list_sandboxes,
        summary="List sandboxes",
        group="Sandboxes",
        description="This machine is one sandbox, in every namespace. Its id is `local`.",
        answer=Answer(meaning="The sandbox.", content={_JSON: schemas.SandboxList}),
    ),
    Route(
        method="POST",
        path=_SANDBOXES,
        call=sandboxes.create,
        summary="Ask for a sandbox",
        group="Sandboxes",
        description="Nothing is made: the answer is this machine, whatever image, size or name is asked for.",
        body="What the sandbox should be. It is not read.",
        body_type=_JSON,
        answer=Answer(meaning="The sandbox.", content={_JSON: schemas.CreatedSandbox}),
    ),
    Route(
        method="GET",
        path=_SANDBOX,
        call=sandboxes.show,
        summary="Show a sandbox",
        group="Sandboxes",
        answer=Answer(meaning="The sandbox.", content={_JSON: schemas.Sandbox}),
        raises=(NotFound,),
    ),
    Route(
        method="DELETE",
        path=_SANDBOX,
        call=sandboxes.delete,
        summary="Give a sandbox back",
        group="Sandboxes",
        description="Nothing ends: processes and files stay. `outlast shutdown` ends everything.",
        answer=done("The client has no sandbox any more."),
        raises=(NotFound,),
    ),
    Route(
        method="GET",
        path="/api/v1/tunnels/tcp",
        call=tunnel.tunnel,
        summary="Connect to a port on loopback, over a websocket",
        group="Sandboxes",
        description="Binary messages carry the bytes both ways. The websocket ends when the program closes its "
        "connection, and when the daemon stops.",
        query=schemas.TunnelQuery,
        answer=Answer(status=HTTPStatus.SWITCHING_PROTOCOLS, meaning="The tunnel is open.", content={}),
        raises=(NotFound,),
    ),
)
