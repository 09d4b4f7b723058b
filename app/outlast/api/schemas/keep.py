"""The field `keep` of a start: what is kept of the process, where that differs from the settings."""

from typing import Any

from marshmallow import ValidationError, post_load
from marshmallow import fields as ma_fields

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict
from outlast.model.options import Keep

ALWAYS = "always"
MAX_SECONDS = 1 << 33

DESCRIPTIONS = {
    "output_s": "Age in seconds at which output is deleted, in place of the setting `keep_output_s`. 0: never.",
    "bytes": "Bytes on the disk beyond which the oldest output is deleted, in place of the setting "
    "`keep_process_bytes`. 0: no limit.",
    "ended_s": "Time in seconds after its end at which the process is purged, in place of the setting `keep_ended_s`. "
    "0: never. The setting `keep_ended` counts all the same.",
}


class _KeepBody(Strict):
    """`keep` of a start, as an object. Loads as a `Keep`."""

    output_s = fields.Integer(high=MAX_SECONDS, allow_none=True)
    bytes = fields.Integer(allow_none=True)
    ended_s = fields.Integer(high=MAX_SECONDS, allow_none=True)

    @post_load
    def _make(self, data: dict[str, Any], **_: Any) -> Keep:
        return Keep(**data)


_BODY = _KeepBody()

_INTEGER = {"type": ["integer", "null"], "minimum": 0}
FORMS: list[dict[str, Any]] = [
    {"type": "string", "enum": [ALWAYS]},
    {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "output_s": {**_INTEGER, "maximum": MAX_SECONDS, "description": DESCRIPTIONS["output_s"]},
            "bytes": {**_INTEGER, "maximum": fields.MAX_INTEGER, "description": DESCRIPTIONS["bytes"]},
            "ended_s": {**_INTEGER, "maximum": MAX_SECONDS, "description": DESCRIPTIONS["ended_s"]},
        },
    },
]


class KeepField(ma_fields.Field[Keep]):
    """`keep` of a start: "always", or an object. Loads as a `Keep`."""

    default_error_messages = fields.MESSAGES

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Keep:
        del attr, data, kwargs
        if value == ALWAYS:
            return Keep(always=True)
        if not isinstance(value, dict):
            raise ValidationError(f'must be "{ALWAYS}" or a JSON object')
        keep: Keep = _BODY.load(value)
        return keep
