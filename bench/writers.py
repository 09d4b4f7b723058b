"""The programs that write: the same ones for Outlast and for every peer. Each runs in an interpreter of its own."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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

# Reports that it is there, waits for the gate to be opened, spreads over one interval with the others, and waits for
# the gate to be closed.
_PACER = """
import os, sys, time
folder, number = sys.argv[1], int(sys.argv[2])
count, bursts, burst_lines, interval_ms = map(int, sys.argv[3:])
report = os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT)
gate = os.open(f"{folder}/gate", os.O_RDONLY)
interval_ns = interval_ms * 1_000_000
due_ns = time.monotonic_ns() + interval_ns * number // count
longest_ns = 0
for burst in range(bursts):
    time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
    first = burst * burst_lines
    data = b"".join((b"%04d %08d " % (number, n)).ljust(95, b".") + b"\\n" for n in range(first, first + burst_lines))
    while data:
        data = data[os.write(1, data) :]
    longest_ns = max(longest_ns, time.monotonic_ns() - due_ns)
    due_ns += interval_ns
os.write(report, b"%d" % longest_ns)
os.read(gate, 1)
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
    """A program that writes a flood: a description, and its command for a number of lines."""

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


def pacer(
    folder: Path, number: int | str, processes: int, bursts: int, burst_lines: int, interval_ms: int
) -> list[str]:
    """Be the one with this number of many processes, which print `bursts` times `burst_lines` lines in step.

    It makes the file `number` in `folder`, begins when somebody opens the pipe `gate` there for writing, reports into
    its file how late it was at most (ns), and ends when the pipe is closed.
    """
    return [*_PYTHON, _PACER, str(folder), str(number), *map(str, (processes, bursts, burst_lines, interval_ms))]


def paced_line(number: int, line: int) -> bytes:
    """Return the line that `pacer` writes as its `line`th, counted from 0."""
    return (b"%04d %08d " % (number, line)).ljust(LINE_BYTES - 1, b".") + b"\n"
