"""Schemas of logins by a code."""

from marshmallow import Schema
from marshmallow import fields as ma_fields

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict


class CodeQuery(Strict):
    """GET /login."""

    code = fields.String(load_default=None, metadata={"description": "A code of `POST /api/v1/login-codes`."})
    next = fields.String(
        load_default="/", metadata={"description": "Path and query string of this server to go to after the login."}
    )


class LoginCode(Schema):
    """A code that logs one browser in, once."""

    code = ma_fields.String(required=True, metadata={"description": "The code."})
    path = ma_fields.String(
        required=True,
        metadata={
            "description": "Path and query string that a browser opens. `&next=` and a path say where to go from there."
        },
    )
    expires_at = ma_fields.Integer(
        required=True, strict=True, metadata={"description": "When the code expires: 60 s after it was made."}
    )
