"""The programs that write: the same ones for Outlast and for every peer. Each runs in an interpreter of its own."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

LINE_BYTES = 96
BLOCK_LINES = 10_000
STAMP = rb"written at (\d+)\D"

# From one block to the next only the upper four digits change: each is one byte in every 96, set by one strided
# copy, so that the numbering costs next to nothing.
_FLOOD = """
import os, sys
left, write_bytes = int(sys.argv[1]), int(sys.argv[2])
block = bytearray(b"".join((b"0000%04d " % n).ljust(95, b".") + b"\\n" for n in range(10_000)))
number = 0
while left > 0:
    for place, digit in enumerate(b"%04d" % number):
        if block[place] != digit:
            block[place::96] = bytes([digit]) * 10_000
    rest = memoryview(block)[: min(left, 10_000) * 96]
    while rest:
        rest = rest[os.write(1, rest[:write_bytes]) :]
    left -= 10_000
    number += 1
"""

# What a program that just prints does, through the buffer that Python gives a pipe: 8 KiB a write.
_PRINTER = """
import sys
for number in range(int(sys.argv[1])):
    print(f"{number:08d} {'.' * 86}")
"""

_TICKER = """
import os, sys, time
count, interval_ns = int(sys.argv[1]), 1_000_000_000 // int(sys.argv[2])
due_ns = time.monotonic_ns()
for _ in range(count):
    due_ns += interval_ns
    time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
    os.write(1, b"written at %d\\n" % time.monotonic_ns())
"""

_PYTHON = (sys.executable, "-I", "-S", "-c")


def flood(lines: int, write_lines: int = BLOCK_LINES) -> list[str]:
    """Write `lines` numbered lines of 96 bytes, `write_lines` at once, as fast as they are taken."""
    return [*_PYTHON, _FLOOD, str(lines), str(write_lines * LINE_BYTES)]


def printer(lines: int) -> list[str]:
    """Write the lines that `flood` writes, with a `print` for each."""
    return [*_PYTHON, _PRINTER, str(lines)]


@dataclass(frozen=True, slots=True)
class Program:
    """A way to write a flood: in words, and the command for so many lines."""

    how: str
    argv: Callable[[int], list[str]]


PROGRAMS = {
    "print": Program("a `print` for each", printer),
    "8k": Program("8 KiB at once by a program that does nothing else", lambda lines: flood(lines, 8192 // LINE_BYTES)),
    "960k": Program("960 KB at once by a program that does nothing else", flood),
}


def flood_line(number: int) -> bytes:
    """Return the line that `flood` writes as the one with this number, counted from 0, without its end."""
    return (b"%08d " % number).ljust(LINE_BYTES - 1, b".")


def ticker(lines: int, lines_per_s: int) -> list[str]:
    """Write `lines` lines at an even pace, each with the time of its writing (CLOCK_MONOTONIC, ns): `STAMP`."""
    return [*_PYTHON, _TICKER, str(lines), str(lines_per_s)]
