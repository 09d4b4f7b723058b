"""A file system that is small, and full when a test wants it to be."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGE_BYTES = 4096


class Disk:
    """A mounted tmpfs, with a file of ballast on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"

    def fill(self) -> None:
        """Take all room, to the last page."""
        descriptor = os.open(self.ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with contextlib.closing(os.fdopen(descriptor, "wb", buffering=0)) as file:
            for size in (1 << 20, PAGE_BYTES):
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * size):
                        pass

    def give_back(self, pages: int) -> None:
        """Make so much room."""
        os.truncate(self.ballast, max(0, self.ballast.stat().st_size - pages * PAGE_BYTES))

    def make_room(self) -> None:
        """Take the ballast off."""
        self.ballast.unlink()


@contextlib.contextmanager
def mounted(mount: Path, size_mib: int) -> Iterator[Disk]:
    """Mount one. Where that is not allowed, the test is skipped (in CI it fails)."""
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0700", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        if "CI" in os.environ:
            pytest.fail("CI must be able to mount a tmpfs")
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield Disk(mount)
    finally:
        subprocess.run(["umount", str(mount)], check=True)
