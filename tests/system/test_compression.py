"""The setting `compress`, as far as the rows of a flood."""

from pathlib import Path

import pytest

from tests.support.daemon import Daemon

_FLOOD = "import os\nfor n in range(20):\n    os.write(1, b'line\\n' * 20_000)"


@pytest.mark.parametrize(("setting", "codec"), [("auto", "zlib"), ("off", None)])
async def test_the_setting_says_whether_a_flood_is_compressed(
    state_dir: Path, tmp_path: Path, setting: str, codec: str | None
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'compress = "{setting}"\n')
    daemon = Daemon(state_dir, OUTLAST_CONFIG=str(config))
    try:
        await daemon.start()
        process = await daemon.python(_FLOOD)
        await daemon.ended(process)
        assert await daemon.raw(process) == b"line\n" * 400_000
        assert daemon.sql("SELECT max(codec) FROM output_chunk") == [(codec,)]
    finally:
        await daemon.end_everything()
