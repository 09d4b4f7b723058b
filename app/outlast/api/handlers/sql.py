"""Handler of SQL queries."""

from aiohttp import web

from outlast.api import app_keys
from outlast.api.parsing import RequestInput
from outlast.model.sql import SqlQuery


async def query(request: web.Request, given: RequestInput) -> web.Response:
    """POST /api/v1/sql."""
    sql_query: SqlQuery = given.body
    answer = await request.app[app_keys.MANAGER].queries.run_sql(sql_query)
    return web.Response(body=answer, content_type="application/json")
