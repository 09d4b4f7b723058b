"""Query string of a login by a code."""

from outlast.api.schemas import fields
from outlast.api.schemas.base import Strict


class CodeQuery(Strict):
    """GET /login."""

    code = fields.String(load_default=None, metadata={"description": "A code of `POST /api/v1/login-codes`."})
    next = fields.String(
        load_default="/", metadata={"description": "Path and query string of this server to go to after the login."}
    )
