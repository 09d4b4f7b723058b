"""Schemas of projects: what is declared, and the answers."""

import re
from typing import Any

from marshmallow import Schema, ValidationError, post_load, validate
from marshmallow import fields as ma_fields

from outlast.api.schemas import fields, process_fields
from outlast.api.schemas.base import Strict
from outlast.api.schemas.processes import StartBody
from outlast.core.commands.start_request import StartRequest
from outlast.core.projects.entries import Declared
from outlast.core.projects.projects import Application
from outlast.model.errors import InvalidRequest
from outlast.model.project import DeclaredStatus, Need

MAX_PROCESSES = 1000
MAX_WAIT_S = 300.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
NAME_FORM = 'must be 1 to 64 letters, digits, "_" and "-", and begin with a letter or digit'


def check_project_name(name: str) -> bool:
    """Return whether a project may have this name."""
    return _NAME.fullmatch(name) is not None and not name.isdecimal()


class ByName(ma_fields.Dict):
    """Values by name. An error names the path to the value, such as `processes.web.start`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        try:
            return super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call] # marshmallow has no types here
        except ValidationError as exc:
            if not isinstance(exc.messages, dict):
                raise
            raise ValidationError({name: _inner(errors) for name, errors in exc.messages.items()}) from None


def _inner(errors: Any) -> Any:
    return errors.get("value", errors.get("key", errors)) if isinstance(errors, dict) else errors


class DeclaredStartBody(StartBody):
    """Start of a declared process. Loads as a `StartRequest` without name and key."""

    class Meta:
        """The fields that the project gives."""

        exclude = ("name", "idempotency_key")


class DeclaredBody(Strict):
    """A declared process. Loads as a `Declared`."""

    start = ma_fields.Nested(
        DeclaredStartBody,
        required=True,
        metadata={"description": "Its start, as that of any process. The name is `PROJECT.NAME`."},
    )
    depends_on = ByName(
        keys=ma_fields.String(),
        values=fields.Choice(Need),
        load_default=dict,
        metadata={
            "description": "For which condition of which others it waits. `started`; `healthy`: its health check has "
            "succeeded; `log_ready`: it has printed the line of its `ready_log`; `completed`: it has ended for good; "
            "`completed_successfully`."
        },
    )
    disabled = ma_fields.Boolean(
        load_default=False, metadata={"description": "Whether it is declared only, and not started."}
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Declared:
        start: StartRequest = data["start"]
        return Declared(start=start, needs=data["depends_on"], disabled=data["disabled"])


class ProjectBody(Strict):
    """PUT /api/v1/projects/{project}. Loads as its folder and its `Declared` processes."""

    example = {
        "folder": "/srv/shop",
        "processes": {
            "db": {"start": {"command": "sleep", "args": ["60"], "restart": {"policy": "always"}}},
            "web": {"start": {"command": "sleep", "args": ["60"]}, "depends_on": {"db": "started"}},
        },
    }

    folder = fields.String(
        load_default="", metadata={"description": "Folder in which it is declared; for people.", "example": "/srv/shop"}
    )
    processes = ByName(
        keys=process_fields.Name(),
        values=ma_fields.Nested(DeclaredBody),
        required=True,
        validate=validate.Length(max=MAX_PROCESSES, error=f"must have at most {MAX_PROCESSES} processes"),
        metadata={"description": "The processes, by name."},
    )


class ApplyQuery(Strict):
    """Query of PUT /api/v1/projects/{project}."""

    dry_run = fields.QueryFlag(load_default=False, metadata={"description": "Only tell what would be done."})
    force = fields.QueryFlag(
        load_default=False, metadata={"description": "Replace also the processes that have not changed."}
    )
    remove_orphans = fields.QueryFlag(
        load_default=False, metadata={"description": "End the processes that are declared no more."}
    )
    process = ma_fields.List(
        fields.String(),
        load_default=list,
        metadata={"description": "Apply only to the process with this name; may be repeated. Default: to all."},
    )


class EndQuery(Strict):
    """Query of DELETE /api/v1/projects/{project}."""

    process = ma_fields.List(
        fields.String(),
        load_default=list,
        metadata={"description": "End only the process with this name; may be repeated. Default: the whole project."},
    )
    wait = fields.QueryFloat(
        low=0,
        high=MAX_WAIT_S,
        load_default=60.0,
        metadata={"description": "Maximum time in seconds to wait for the ends."},
    )


class ShowQuery(Strict):
    """Query of GET /api/v1/projects/{project}."""

    wait = fields.QueryFloat(
        low=0,
        high=MAX_WAIT_S,
        load_default=0.0,
        metadata={"description": "Maximum time in seconds to wait until nothing is left to wait for."},
    )


def make_application(body: dict[str, Any], query: dict[str, Any]) -> Application:
    """Return the application that a call asks for.

    Raises:
        InvalidRequest: it names a process that is not declared.
    """
    only = frozenset(query["process"])
    if unknown := only - body["processes"].keys():
        raise InvalidRequest(f"process: {min(unknown)!r} is not declared")
    return Application(
        folder=body["folder"],
        processes=body["processes"],
        only=only or None,
        forces=query["force"],
        removes=query["remove_orphans"],
        is_dry=query["dry_run"],
    )


def _names(description: str) -> ma_fields.List[str]:
    return ma_fields.List(ma_fields.String(), required=True, metadata={"description": description})


class AppliedProject(Schema):
    """Effects of an application, by names of processes."""

    created = _names("Declared for the first time.")
    changed = _names("Changed: the process is ended, and another one started under its name.")
    removed = _names("Declared no more: they are ended.")
    restarted = _names("Not changed, but ended without success: their next run is started.")
    unchanged = _names("Not changed, and not touched.")
    orphans = _names("Declared no more, and left running.")
    waiting = ma_fields.Dict(
        keys=ma_fields.String(),
        values=ma_fields.String(),
        required=True,
        metadata={"description": "Those that wait for others now, and for what."},
    )


class DeclaredInfo(Schema):
    """A declared process as it is now."""

    status = ma_fields.String(
        required=True,
        validate=validate.OneOf([status.value for status in DeclaredStatus]),
        metadata={"description": "`skipped`: what it waits for cannot come any more. `stopped`: it is not to run."},
    )
    reason = ma_fields.String(required=True, metadata={"description": "Why; empty: that is plain."})
    id = ma_fields.String(
        required=True, allow_none=True, metadata={"description": "Permanent id of its process; null: it has none yet."}
    )
    depends_on = ma_fields.Dict(
        keys=ma_fields.String(),
        values=ma_fields.String(),
        required=True,
        metadata={"description": "For which condition of which others it waits."},
    )


class ProjectInfo(Schema):
    """A project as it is now."""

    name = ma_fields.String(required=True, metadata={"description": "Name of the project."})
    folder = ma_fields.String(required=True, metadata={"description": "Folder in which it was declared."})
    settled = ma_fields.Boolean(
        required=True,
        metadata={"description": "Whether no process waits for another, and none is about to become healthy."},
    )
    processes = ma_fields.Dict(
        keys=ma_fields.String(),
        values=ma_fields.Nested(DeclaredInfo),
        required=True,
        metadata={"description": "The declared processes, by name."},
    )
    orphans = _names("Processes that are declared no more, and may run.")


class ProjectNames(Schema):
    """The names of all projects."""

    projects = _names("Names, sorted.")
