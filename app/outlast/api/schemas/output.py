"""Query strings of calls that read or follow output, and the header that resumes a stream."""

from dataclasses import dataclass
from typing import Any

from marshmallow import post_load

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict
from outlast.api.schemas.line_fields import check_one_line
from outlast.api.schemas.moments import MomentField
from outlast.core.query.output_cursor import OutputQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Stored output to read: the range, the text that a line must contain, and the maximum number of lines."""

    where: OutputQuery
    limit: int | None
    grep: bytes | None


class FollowQuery(Strict):
    """GET .../follow. Loads as an `OutputQuery` of both streams."""

    after = fields.QueryInteger(metadata={"description": "Start after the line, part or gap with this id."})
    tail = fields.QueryInteger(
        metadata={"description": "Start this number of lines before the end. Gaps are not counted."}
    )
    since = MomentField(metadata={"description": "Only lines that were read at or after this time."})
    until = MomentField(metadata={"description": "Only lines that were read at or before this time."})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        return OutputQuery(
            after=data.get("after", 0),
            tail=data.get("tail"),
            since_ms=data.get("since"),
            until_ms=data.get("until"),
        )


class OutputRange(FollowQuery):
    """GET .../stdout, /stderr, /output. Loads as `ReadOptions` of both streams."""

    after = fields.QueryInteger(
        metadata={
            "description": "Only lines and gaps with a greater id. If this is the id of a part of a line, that line "
            "comes without its parts up to this one."
        }
    )
    limit = fields.QueryInteger(
        metadata={"description": "Maximum number of lines in the answer. Gaps are not counted."}
    )
    grep = fields.String(
        validate=check_one_line,
        metadata={"description": "Only lines that contain this text: literal, case-sensitive."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        needle = data.pop("grep", "")
        limit = data.pop("limit", None)
        where: OutputQuery = super()._make(data)
        return ReadOptions(where=where, limit=limit, grep=needle.encode() or None)


class ResumeHeader(Strict):
    """The request header of a follower that resumes a stream."""

    last_event_id = fields.QueryInteger(data_key="Last-Event-ID")
