"""The query string of the list of processes."""

from typing import Any

from marshmallow import post_load

from outlast.api.cursor import apply_cursor
from outlast.api.schemas import fields
from outlast.api.schemas.page_fields import OrderedPage, name_filter, page_limit, tag_filter
from outlast.model.process import ProcessQuery, Status


class ListQuery(OrderedPage):
    """GET /api/v1/processes. Loads as a `ProcessQuery`."""

    status = fields.Choice(
        Status, metadata={"description": "Only processes whose current or last run has this status."}
    )
    tag = tag_filter("processes")
    name = name_filter("processes")
    since = fields.QueryInteger(
        metadata={
            "description": "Only processes whose first run started at or after this time. A restart does not change "
            "the place of a process in the list."
        }
    )
    until = fields.QueryInteger(
        metadata={"description": "Only processes whose first run started at or before this time."}
    )
    limit = page_limit("processes", default=1000, high=10_000)

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
        return apply_cursor(query, data["cursor"]) if "cursor" in data else query
