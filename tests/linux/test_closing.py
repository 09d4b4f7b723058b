"""Closing inherited descriptors, with close_range(2) and without."""

import os
import sys

import pytest

from outlast.linux import closing


@pytest.mark.parametrize("is_refused", [False, True])
def test_all_descriptors_but_some_are_closed(monkeypatch: pytest.MonkeyPatch, is_refused: bool) -> None:
    if is_refused:
        monkeypatch.setattr(closing, "_close_range", lambda _first, _last: False)
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    kept = (opened[12], opened[3], opened[4])
    pid = os.fork()
    if pid == 0:
        closing.close_all_but(kept)
        left = {int(name) for name in os.listdir("/proc/self/fd")}
        listing = min(set(range(3, sys.maxsize.bit_length())) - set(kept))  # the list's own descriptor
        os._exit(left - {listing} != {0, 1, 2, *kept})
    _, status = os.waitpid(pid, 0)
    for fd in opened:
        os.close(fd)
    assert status == 0


def test_no_descriptor_need_be_kept() -> None:
    pid = os.fork()
    if pid == 0:
        closing.close_all_but(())
        os._exit(set(os.listdir("/proc/self/fd")) != {"0", "1", "2", "3"})
    assert os.waitpid(pid, 0)[1] == 0
