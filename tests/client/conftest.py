from collections.abc import Iterator

import pytest
from tensorlake.sandbox import Sandbox

from tests.support.daemon import Daemon


@pytest.fixture
def sandbox(daemon: Daemon) -> Iterator[Sandbox]:
    client = Sandbox("local", proxy_url=daemon.url, api_key=daemon.token)
    yield client
    client.close()
