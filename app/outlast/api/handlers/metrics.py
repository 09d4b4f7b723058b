"""Handler of the scrapes of Prometheus."""

from aiohttp import hdrs, web

from outlast.api import app_keys
from outlast.api.metrics.daemon_families import add_daemon, add_figures, add_http
from outlast.api.metrics.exposition import CONTENT_TYPES, OPENMETRICS, Exposition
from outlast.api.metrics.process_families import add_processes
from outlast.api.negotiation import preferred
from outlast.api.parsing import RequestInput
from outlast.linux.own_usage import own_usage
from outlast.model.shortage import shortages_told


async def metrics(request: web.Request, _: RequestInput) -> web.Response:
    """GET /metrics."""
    form = preferred(request.headers.get(hdrs.ACCEPT, ""), tuple(CONTENT_TYPES))
    exposition = Exposition(is_openmetrics=form == OPENMETRICS)
    reader = request.app[app_keys.MANAGER].metrics
    figures = await reader.read()
    with shortages_told("measure the daemon"):
        usage = own_usage()
    add_daemon(exposition, request.app[app_keys.VERSION], usage, request.app[app_keys.STARTED_AT_S])
    add_figures(exposition, figures)
    add_http(exposition, request.app[app_keys.HTTP_STATS])
    add_processes(exposition, reader.named_processes(), request.app[app_keys.METRICS_TAGS])
    return web.Response(
        body=exposition.encoded(), headers={hdrs.CONTENT_TYPE: CONTENT_TYPES[form], hdrs.VARY: hdrs.ACCEPT}
    )
