"""The body of an SQL query."""

from typing import Any

from marshmallow import ValidationError, post_load, validate
from marshmallow import fields as ma_fields

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict
from outlast.model.sql import MAX_ROWS, SqlQuery

_DEFAULTS = SqlQuery(query="")
_MAX_SECONDS = 60
_MAX_QUERY_CHARS = 100_000


def _check_parameters(given: Any) -> None:
    if not isinstance(given, list | dict):
        raise ValidationError("must be an array, or an object of values by name")
    for value in given.values() if isinstance(given, dict) else given:
        if isinstance(value, list | dict):
            raise ValidationError("must contain strings, numbers, true, false and null only")
        if isinstance(value, str):
            fields.check_text(value)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValidationError("must not contain an integer of more than 64 bits")


class SqlBody(Strict):
    """POST /api/v1/sql. Loads as a `SqlQuery`."""

    example = {"query": "SELECT id, name, command, status FROM processes ORDER BY handle DESC", "limit": 10}

    query = fields.String(
        required=True,
        validate=validate.Length(1, _MAX_QUERY_CHARS, error=f"must be 1 to {_MAX_QUERY_CHARS} characters long"),
        metadata={"description": "One SQL statement. It can only read."},
    )
    parameters = ma_fields.Raw(
        validate=_check_parameters,
        error_messages={"null": "must not be null, leave it out instead"},
        metadata={
            "description": "Values of the parameters of the statement: an array for `?`, an object for `:name`.",
            "anyOf": [{"type": "array"}, {"type": "object"}],
        },
    )
    limit = fields.Integer(
        low=1,
        high=MAX_ROWS,
        load_default=_DEFAULTS.max_rows,
        metadata={"description": "Maximum number of rows in the answer."},
    )
    timeout = fields.Seconds(
        high=_MAX_SECONDS,
        metadata={"description": f"Maximum time in seconds. Default {_DEFAULTS.timeout_s:g}."},
    )

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> SqlQuery:
        return SqlQuery(
            query=data["query"],
            parameters=data.get("parameters", ()),
            max_rows=data["limit"],
            timeout_s=data["timeout"] / 1000 if "timeout" in data else _DEFAULTS.timeout_s,
        )
