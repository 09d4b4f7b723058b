"""Query strings of calls that read or follow output, and the header that resumes a stream."""

from dataclasses import dataclass
from typing import Any

from marshmallow import ValidationError, post_load, validates_schema

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict
from outlast.api.schemas.line_fields import IGNORE_CASE, check_one_line, regex_meaning
from outlast.api.schemas.moments import MomentField
from outlast.core.query.matcher import Matcher, make_matcher
from outlast.core.query.output_cursor import OutputQuery
from outlast.model.histogram import HistogramQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Stored output to read.

    Attributes:
        where: the range.
        before: only lines with a smaller id, and of these the last; None: the first.
        limit: maximum number of lines.
        matcher: what a line must match.
        is_slow: whether a match may take long.
    """

    where: OutputQuery
    before: int | None = None
    limit: int | None = None
    matcher: Matcher | None = None
    is_slow: bool = False


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
    before = fields.QueryInteger(
        low=1,
        metadata={
            "description": "Only lines and gaps with a smaller id. `limit` then counts from the last of them: with the "
            "id of the first line of a page, this gives the page before it. The lines come oldest first all the same. "
            "A page that ends where output was deleted by a limit begins with that gap, cut at this id. "
            "Not with `tail` and `until`."
        },
    )
    limit = fields.QueryInteger(
        metadata={"description": "Maximum number of lines in the answer. Gaps are not counted."}
    )
    grep = fields.String(validate=check_one_line, metadata={"description": "Only lines that contain this text."})
    regex = fields.QueryFlag(load_default=False, metadata={"description": regex_meaning("grep")})
    ignore_case = fields.QueryFlag(load_default=False, metadata={"description": IGNORE_CASE})

    @validates_schema
    def _check_parameters(self, data: dict[str, Any], **_: Any) -> None:
        for name in ("tail", "until"):
            if name in data and "before" in data:
                raise ValidationError({name: ["cannot be used with before: limit is the number of lines before it"]})
        for name in ("regex", "ignore_case"):
            if data[name] and not data.get("grep"):
                raise ValidationError({name: ["needs grep: the text to look for"]})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Any:
        where: OutputQuery = super()._make(data)
        pattern, is_regex, ignore_case = data.get("grep"), data["regex"], data["ignore_case"]
        return ReadOptions(
            where=where,
            before=data.get("before"),
            limit=data.get("limit"),
            matcher=make_matcher(pattern, "grep", is_regex=is_regex, ignore_case=ignore_case) if pattern else None,
            is_slow=is_regex,
        )


class HistogramParameters(Strict):
    """GET .../output/histogram. Loads as a `HistogramQuery` of no process."""

    buckets = fields.QueryInteger(
        low=1,
        high=2000,
        load_default=200,
        metadata={"description": "Maximum number of buckets."},
    )
    since = MomentField(metadata={"description": "Where the first bucket begins. Default: with the output."})
    until = MomentField(metadata={"description": "Where the last bucket ends. Default: with the output."})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> HistogramQuery:
        return HistogramQuery(handle=0, buckets=data["buckets"], since_ms=data.get("since"), until_ms=data.get("until"))


class ResumeHeader(Strict):
    """The request header of a follower that resumes a stream."""

    last_event_id = fields.QueryInteger(data_key="Last-Event-ID")
