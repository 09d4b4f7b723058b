"""The query string of the list of processes."""

from dataclasses import dataclass
from typing import Any

from marshmallow import post_load

from outlast.api.cursor import apply_cursor
from outlast.api.schemas import fields
from outlast.api.schemas.moments import MomentField
from outlast.api.schemas.page_fields import OrderedPage, name_filter, tag_filter
from outlast.model.process import ProcessQuery, Status

_DEFAULT_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """A page of processes.

    Attributes:
        query: the processes.
        adds_running: whether all that run belong to it, also beyond `query.limit`.
        with_usage: whether to tell the resources that those use which run.
    """

    query: ProcessQuery
    adds_running: bool
    with_usage: bool


class ListQuery(OrderedPage):
    """GET /api/v1/processes. Loads as a `ListRequest`."""

    status = fields.Choice(
        Status, metadata={"description": "Only processes whose current or last run has this status."}
    )
    tag = tag_filter("processes")
    name = name_filter("processes")
    since = MomentField(
        metadata={
            "description": "Only processes whose first run started at or after this time. A restart does not change "
            "the place of a process in the list."
        }
    )
    until = MomentField(metadata={"description": "Only processes whose first run started at or before this time."})
    limit = fields.QueryInteger(
        low=1,
        high=10_000,
        metadata={
            "description": "Maximum number of processes in the answer. Without it and `cursor`, the answer has "
            f"{_DEFAULT_LIMIT} processes, and behind them all others that run, so that none of those is missing; they "
            "come again on the page to which they belong."
        },
    )
    usage = fields.QueryFlag(
        load_default=False,
        metadata={
            "description": "Whether each process has the field `usage`: processor time, memory and others of the "
            "last sample of its run.",
            "default": False,
        },
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> ListRequest:
        query = ProcessQuery(
            status=data.get("status"),
            name=data.get("name"),
            tags=data.get("tag", {}),
            since_ms=data.get("since"),
            until_ms=data.get("until"),
            order=data["order"],
            limit=data.get("limit", _DEFAULT_LIMIT),
        )
        if "cursor" in data:
            query = apply_cursor(query, data["cursor"])
        adds_running = "limit" not in data and "cursor" not in data
        return ListRequest(query=query, adds_running=adds_running, with_usage=data["usage"])
