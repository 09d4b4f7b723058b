"""The part of the route table that is about projects."""

from http import HTTPStatus

from outlast.api.handlers import projects
from outlast.api.route import Answer, Route
from outlast.api.schemas import projects as schemas
from outlast.model.errors import EnvKeyLost, NotFound, SpawnFailed

_JSON = "application/json"
_PROJECT = "/api/v1/projects/{project}"

PROJECT_ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/api/v1/projects",
        call=projects.list_projects,
        summary="List projects",
        group="Projects",
        answer=Answer(meaning="The names.", content={_JSON: schemas.ProjectNames}),
    ),
    Route(
        method="PUT",
        path=_PROJECT,
        call=projects.apply,
        changes=True,
        summary="Declare the processes of a project",
        group="Projects",
        description="The whole set is given each time. The answer comes when it is kept; the daemon, or the next one, "
        "then starts each process as soon as what it waits for holds. Specifications are compared, environments "
        "included: a process that has not changed is not touched. One that has is ended, and another one started under "
        "its name. A process is called `PROJECT.NAME`, and has the tag `project`.",
        query=schemas.ApplyQuery,
        body=schemas.ProjectBody,
        answer=Answer(meaning="What is done, or with `dry_run` would be.", content={_JSON: schemas.AppliedProject}),
        raises=(SpawnFailed, EnvKeyLost),
    ),
    Route(
        method="GET",
        path=_PROJECT,
        call=projects.show,
        summary="Show a project",
        group="Projects",
        query=schemas.ShowQuery,
        answer=Answer(meaning="The project as it is now.", content={_JSON: schemas.ProjectInfo}),
        raises=(NotFound,),
    ),
    Route(
        method="DELETE",
        path=_PROJECT,
        call=projects.end,
        changes=True,
        summary="End a project",
        group="Projects",
        description="Its processes end in reverse order, each after those that wait for it. Then the project is "
        "forgotten; the records and the output of its processes stay. With `process`, only those are ended, and the "
        "project stays.",
        query=schemas.EndQuery,
        answer=Answer(status=HTTPStatus.NO_CONTENT, meaning="All of it has ended.", content={}),
        other_answer=Answer(
            status=HTTPStatus.ACCEPTED,
            meaning="It has not ended within `wait` seconds; the daemon goes on. Repeat the request.",
            content={},
        ),
        raises=(NotFound,),
    ),
)
