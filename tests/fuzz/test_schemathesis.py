"""Every answer of the API is one that the OpenAPI document describes."""

import asyncio
import os
from pathlib import Path

import pytest
from yarl import URL

from outlast.api.routes import ROUTES
from tests.support.daemon import Daemon

OUTPUT = r"import sys; sys.stdout.buffer.write(b'one\ntwo\xff\n' * 20); print('error', file=sys.stderr)"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "10"))
LIMITS = 4 * EXAMPLES


NEVER_MET = {
    *("GET /login", "POST /login", "POST /logout", "GET /api/v1/output/follow"),
    "GET /api/v1/pty/{session}/ws",
    "GET /api/v1/tunnels/tcp",
    "PUT /api/v1/processes/{ref}",
}
"""Calls that succeed only with what nobody makes up: a token, the origin of the page, a process that is there."""

NEEDED = {"until": "exit"}  # required parameters of calls
IMPOSSIBLE_REFS = (
    *("0", "99999999999", "9" * 400, "%00", "%FF", "%2E%2E", "%2F", "%EF%BC%91", "%F0%9F%90%99"),
    *("a" * 5000, "%7Bref%7D", "%0D%0A", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
)


@pytest.mark.long
async def test_every_answer_is_in_the_document(daemon: Daemon, tmp_path: Path) -> None:
    from tests.fuzz.campaign import Campaign  # noqa: PLC0415 - Schemathesis, which every worker would load

    ended = await daemon.python(OUTPUT)
    await daemon.ended(ended)
    await _refuses_impossible_refs(daemon)
    folder = tmp_path / "files"
    folder.mkdir()
    campaign = Campaign(daemon.url, daemon.token, ended, folder, examples=EXAMPLES, limits=LIMITS)
    wrong = await asyncio.to_thread(campaign.run)
    assert not wrong, "\n\n".join(wrong)
    tried = {label for label, statuses in campaign.statuses.items() if min(statuses) < 300}
    assert tried | NEVER_MET == {f"{route.method} {route.path}" for route in ROUTES if route.documented}


async def _refuses_impossible_refs(daemon: Daemon) -> None:
    for route in ROUTES:
        if "{ref}" not in route.path:
            continue
        needed = "&".join(f"{name}={NEEDED[name]}" for name, field in route.query().fields.items() if field.required)
        for ref in IMPOSSIBLE_REFS:
            url = URL(f"{daemon.url}{route.path.replace('{ref}', ref)}?{needed}", encoded=True)
            valid = {"command": "true"} if route.method == "PUT" else {"signal": 15}
            body = valid if isinstance(route.body, type) else None
            async with daemon.session.request(route.method, url, json=body) as answer:
                assert answer.status == 404, (route.path, ref, answer.status)
                assert (await answer.json())["code"] == "NOT_FOUND"
