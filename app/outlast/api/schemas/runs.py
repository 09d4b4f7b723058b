"""Query strings of calls about the runs of a process."""

from dataclasses import dataclass
from typing import Any

from marshmallow import post_load

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict
from outlast.api.schemas.page_fields import page_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsPage:
    """A page of runs: those before run number `before`, at most `limit`."""

    before: int | None
    limit: int


class RunsQuery(Strict):
    """GET /api/v1/processes/{ref}/runs. Loads as a `RunsPage`."""

    limit = page_limit("runs", default=1000, high=10_000)
    cursor = fields.QueryInteger(metadata={"description": "`next` of the previous page."})

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> RunsPage:
        return RunsPage(before=data.get("cursor"), limit=data["limit"])


class StatsQuery(Strict):
    """GET /api/v1/processes/{ref}/stats. Loads as the number of a run, or None."""

    run = fields.QueryInteger(
        low=1, metadata={"description": "Number of the run. Without it: the current or last run."}
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> int | None:
        return data.get("run")
