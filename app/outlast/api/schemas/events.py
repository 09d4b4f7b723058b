"""The query string of the event feed."""

from typing import Any

from marshmallow import post_load

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict
from outlast.api.schemas.moments import MomentField
from outlast.api.schemas.page_fields import tag_filter
from outlast.core.query.event_feed import EventQuery
from outlast.model.event import EventFilter, EventType


class EventsQuery(Strict):
    """GET /api/v1/events. Loads as an `EventQuery`."""

    after = fields.QueryInteger(load_default=0, metadata={"description": "Start after the event with this id."})
    tail = fields.QueryInteger(metadata={"description": "Start this number of events before the end."})
    process = fields.PermanentRef(
        metadata={
            "description": "Only events of the process with this permanent id or handle (`@12`). A handle finds no "
            "process that was purged, the id still finds its event `purged`."
        }
    )
    type = fields.Choices(
        EventType, metadata={"description": "Only events of this type. Repeat the parameter to allow several."}
    )
    tag = tag_filter("events of processes")
    since = MomentField(metadata={"description": "Only events whose `timestamp` is this time or later."})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> EventQuery:
        wanted = EventFilter(
            process_id=data.get("process"),
            types=frozenset(data.get("type", ())),
            tags=data.get("tag", {}),
            since_ms=data.get("since"),
        )
        return EventQuery(wanted=wanted, after=data["after"], tail=data.get("tail"))
