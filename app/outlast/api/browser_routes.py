"""The part of the route table that is for browsers."""

from http import HTTPStatus

from outlast.api.handlers import docs, login, page
from outlast.api.route import Answer, Route
from outlast.api.schemas import login as login_schemas
from outlast.api.schemas.base import AnyQuery

_JSON = "application/json"
_FILE = Answer(meaning="A file.", content={})

_LOGGED_IN = Answer(
    status=HTTPStatus.SEE_OTHER,
    meaning="The browser goes to `next`, and has a cookie that shows its login.",
    content={},
)

BROWSER_ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/",
        call=page.page,
        summary="Show processes and their output in a browser",
        group="Browsers",
        description="docs/web-page.md describes the page. The query string is the place that it shows.",
        query=AnyQuery,
        answer=Answer(meaning="The page.", content={"text/html": "The page."}),
    ),
    Route(
        method="GET",
        path="/web/{build}/{file:.+}",
        call=page.file,
        summary="Get a file of the page",
        group="Browsers",
        answer=_FILE,
        documented=False,
    ),
    Route(
        method="POST",
        path="/login",
        call=login.log_in,
        summary="Log a browser in",
        group="Browsers",
        description="The form is that of the page which a browser gets, with status 401, when it asks for anything "
        "without the token. The cookie is valid for 30 days, also at later daemons, as long as the token is the same. "
        "Like a password, it counts in requests of this server's own pages only.",
        body="The fields `token` and `next`, the path and query string of this server to go to. At most 8 KiB.",
        body_type="application/x-www-form-urlencoded",
        answer=_LOGGED_IN,
    ),
    Route(
        method="GET",
        path="/login",
        call=login.log_in_by_code,
        summary="Log a browser in by a code",
        group="Browsers",
        description="Without a code, a browser that is logged in goes on to `next`.",
        query=login_schemas.CodeQuery,
        answer=_LOGGED_IN,
    ),
    Route(
        method="POST",
        path="/logout",
        call=login.log_out,
        summary="Log a browser out",
        group="Browsers",
        description="The browser forgets the cookie. A copy of it stays valid for as long as it would have been: to "
        "end all logins, change the token.",
        answer=Answer(status=HTTPStatus.SEE_OTHER, meaning="The browser goes to `/`, without the cookie.", content={}),
    ),
    Route(
        method="POST",
        path="/api/v1/login-codes",
        call=login.make_code,
        summary="Make a code for a browser",
        group="Browsers",
        description="For a program that has the token and opens a browser: the code logs the browser in, once, within "
        "60 s, so that the token is in no URL.",
        answer=Answer(status=HTTPStatus.CREATED, meaning="The code.", content={_JSON: login_schemas.LoginCode}),
    ),
    Route(
        method="GET",
        path="/api/v1/openapi.json",
        call=docs.openapi,
        summary="Get the OpenAPI 3.1 document of this API",
        group="Daemon",
        answer=Answer(meaning="The OpenAPI document.", content={_JSON: "The OpenAPI document."}),
    ),
    Route(
        method="GET",
        path="/docs",
        call=docs.page,
        summary="Show the API documentation in a browser",
        group="Daemon",
        answer=Answer(meaning="A page that shows the API and can send requests.", content={"text/html": "The page."}),
    ),
    Route(
        method="GET",
        path="/docs/{file}",
        call=docs.file,
        summary="Get a file of the documentation page",
        group="Daemon",
        answer=_FILE,
        documented=False,
    ),
)
