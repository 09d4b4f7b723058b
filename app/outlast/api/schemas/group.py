"""The query string of a stream of several processes, and its position."""

from typing import Any

from marshmallow import ValidationError, post_load, validates_schema
from marshmallow import fields as ma_fields

from outlast.api.event_ids import EOF_SUFFIX
from outlast.api.schemas import fields, line_fields
from outlast.api.schemas.base import Strict
from outlast.api.schemas.moments import MomentField
from outlast.api.schemas.page_fields import tag_filter
from outlast.core.query.group import GroupQuery
from outlast.core.query.group_position import GroupPosition


class GroupPositionField(fields.String):
    """A position in a stream of several processes, as its events' ids tell it. Loads as a `GroupPosition`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        position = GroupPosition.parse(text.removesuffix(EOF_SUFFIX))
        if position is None:
            raise ValidationError("must be the id of an event of this stream, such as 12:1204,13:88")
        return position


class FollowGroupQuery(Strict):
    """GET /api/v1/output/follow. Loads as a `GroupQuery`, and the position after which it starts, or None."""

    process = ma_fields.List(
        fields.String(),
        metadata={
            "description": "Pid, permanent id, name or handle (`@12`) of a process. Repeat the parameter to follow "
            "several."
        },
    )
    tag = tag_filter("processes")
    tail = fields.QueryInteger(metadata={"description": "Start this number of lines before the end of each process."})
    since = MomentField(metadata={"description": "Only lines that were read at or after this time."})
    stream = line_fields.StreamName(metadata={"description": "Only this stream of each process."})
    after = GroupPositionField(
        metadata={
            "description": "Start after the event with this id, as with `Last-Event-ID`, which counts instead if both "
            "are given. The processes are then those that the id names, and those with the tags that started later."
        }
    )

    @validates_schema
    def _check_selection(self, data: dict[str, Any], **_: Any) -> None:
        if not data.get("process") and not data.get("tag"):
            raise ValidationError({"process": ["is required, or tag: which processes to follow"]})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> tuple[GroupQuery, GroupPosition | None]:
        query = GroupQuery(
            refs=tuple(data.get("process", ())),
            tags=data.get("tag", {}),
            tail=data.get("tail"),
            since_ms=data.get("since"),
            stream=data.get("stream"),
        )
        return query, data.get("after")


class ResumeGroupHeader(Strict):
    """The request header of a follower that resumes a stream of several processes."""

    last_event_id = GroupPositionField(data_key="Last-Event-ID")
