"""How many descriptors there are, and that counting needs none."""

import os
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from outlast.linux import descriptors


@pytest.fixture
def limits() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def count() -> int:
    return len(os.listdir("/proc/self/fd")) - 1  # the folder's own


def test_what_is_free_is_counted(limits: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    before = descriptors.free()
    assert before == 256 - count()
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(before)]
    assert descriptors.free() == 0
    for fd in files:
        os.close(fd)
    assert descriptors.free() == before


def test_a_kernel_that_does_not_count_is_counted_for(limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Less exactly where there is plenty: a list of thousands takes long."""

    class Silent:
        st_size = 0

    monkeypatch.setattr(os, "stat", lambda *_args, **_more: Silent())
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    assert descriptors.free() in (256 - count(), 256 - count() - 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, limits[1]))
    assert 8192 - count() >= descriptors.free() > 4096
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, limits[1]))
    assert descriptors.free() == 0


@pytest.mark.parametrize(("limit", "reserve"), [(64, 16), (256, 64), (1024, 64)])
def test_a_share_is_reserved(limits: tuple[int, int], limit: int, reserve: int, monkeypatch: Any) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
    assert descriptors.reserve() == reserve
    monkeypatch.setattr(descriptors, "free", lambda: reserve + 5)
    assert [descriptors.has_room(count) for count in (5, 6)] == [True, False]


def test_the_soft_limit_is_raised_to_the_hard_one(limits: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    descriptors.raise_limit()
    assert descriptors.limit() == limits[1]
