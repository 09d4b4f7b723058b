"""What the calls accept that look through all processes: lists, and what happens to them."""

from typing import Any

from marshmallow import post_load, validate

from outlast.api.cursor import go_on
from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict
from outlast.core.query.event_feed import EventQuery
from outlast.model.event import EventFilter, EventType
from outlast.model.process import Order, ProcessQuery, Status

DEFAULT_LIMIT = 1000
MAX_LIMIT = 10_000


class ListQuery(Strict):
    """GET /api/v1/processes."""

    status = fields.Choice(Status, metadata={"description": "Only processes with this status."})
    tag = fields.TagFilters(
        metadata={"description": "Only processes with this tag, as `key:value`; repeat it for several."}
    )
    name = fields.String(
        validate=validate.Length(min=1, error="must not be empty"),
        metadata={"description": "Only processes with exactly this name."},
    )
    since = fields.QueryInteger(
        metadata={"description": "Only those first started at or after this time. A restart does not move a process."}
    )
    until = fields.QueryInteger(metadata={"description": "Only those first started at or before this time."})
    order = fields.Choice(
        Order, load_default=Order.NEWEST, metadata={"description": "Which come first.", "default": Order.NEWEST}
    )
    limit = fields.QueryInteger(
        low=1,
        high=MAX_LIMIT,
        load_default=DEFAULT_LIMIT,
        metadata={"description": "How many to answer with at most."},
    )
    cursor = fields.String(
        metadata={"description": "`next` of the page before; the other parameters, but `limit`, must stay the same."}
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> ProcessQuery:
        query = ProcessQuery(
            status=data.get("status"),
            name=data.get("name"),
            tags=data.get("tag", {}),
            since_ms=data.get("since"),
            until_ms=data.get("until"),
            order=data["order"],
            limit=data["limit"],
        )
        return go_on(query, data["cursor"]) if "cursor" in data else query


class EventsQuery(Strict):
    """GET /api/v1/events."""

    after = fields.QueryInteger(load_default=0, metadata={"description": "Start after the event with this id."})
    tail = fields.QueryInteger(metadata={"description": "Start so many events before the end."})
    process = fields.Ulid(metadata={"description": "Only events of the process with this id."})
    type = fields.Choices(EventType, metadata={"description": "Only events of this type; repeat it for several."})
    tag = fields.TagFilters(
        metadata={"description": "Only events of processes with this tag, as `key:value`; repeat it for several."}
    )
    since = fields.QueryInteger(metadata={"description": "Only events with a `timestamp` at or after this time."})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> EventQuery:
        wanted = EventFilter(
            process_id=data.get("process"),
            types=frozenset(data.get("type", ())),
            tags=data.get("tag", {}),
            since_ms=data.get("since"),
        )
        return EventQuery(wanted=wanted, after=data["after"], tail=data.get("tail"))
