"""Scripts of children: each is a pure function of seed and kind, which child and checker both compute.

Every line says its stream, its number in that stream and the checksum of its text, so that a difference can be read.
"""

import random
import signal
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

STDOUT, STDERR = 1, 2
LONG_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Write:
    """Write these bytes, whole."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class AwaitAbsence:
    """Wait until the campaign says that no daemon is there."""


@dataclass(frozen=True, slots=True)
class Echo:
    """Write to standard output what comes in, to its end."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """End, with `code`; a child of one's own does the rest, and holds the pipes."""

    code: int


@dataclass(frozen=True, slots=True)
class End:
    """End with a code, or by a signal to oneself."""

    code: int | None = None
    signal: int | None = None


Step = Write | Pause | AwaitAbsence | Echo | HandOver | End


class _Lines:
    """Numbered lines of one child."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._numbers = {STDOUT: 0, STDERR: 0}

    def text(self, size_bytes: int) -> bytes:
        return self.rng.randbytes((size_bytes + 1) // 2).hex().encode()[:size_bytes]

    def line(self, stream: int, text: bytes) -> bytes:
        self._numbers[stream] += 1
        word = b"out" if stream == STDOUT else b"err"
        return b"%b %08d %08x %b\n" % (word, self._numbers[stream], zlib.crc32(text), text)

    def short(self, stream: int) -> bytes:
        return self.line(stream, self.text(self.rng.randint(0, 90)))

    def somewhere(self) -> Write:
        stream = self.rng.choice((STDOUT, STDERR))
        return Write(stream, self.short(stream))


def _flood(lines: _Lines) -> Iterator[Step]:
    pause_s = lines.rng.choice((0.0, 0.0, 0.02, 0.04))
    for _ in range(lines.rng.randint(10, 50)):
        text = lines.text(64 * 800)
        yield Write(STDOUT, b"".join(lines.line(STDOUT, text[at : at + 64]) for at in range(0, len(text), 64)))
        if pause_s:
            yield Pause(pause_s)
    yield End(code=0)


def _trickler(lines: _Lines) -> Iterator[Step]:
    for _ in range(lines.rng.randint(40, 160)):
        yield Write(STDOUT, lines.short(STDOUT))
        yield Pause(lines.rng.uniform(0.0, 0.05))
    yield End(code=lines.rng.randint(0, 255))


def _chatter(lines: _Lines) -> Iterator[Step]:
    """Yield writes from the beginning and almost without pauses: followers join in the middle of a commit."""
    for number in range(lines.rng.randint(300, 1500)):
        yield Write(STDOUT, lines.short(STDOUT))
        yield Pause(0.0005 if number % 100 else lines.rng.uniform(0.0, 0.3))
    yield End(code=0)


def _stream(lines: _Lines) -> Iterator[Step]:
    """Yield writes for seconds, too fast for a slow follower: it still reads history when new lines come."""
    for _ in range(lines.rng.randint(100, 250)):
        yield Write(STDOUT, b"".join(lines.line(STDOUT, lines.text(1000)) for _ in range(20)))
        yield Pause(0.02)
    yield End(code=0)


def _both(lines: _Lines) -> Iterator[Step]:
    for number in range(lines.rng.randint(60, 240)):
        yield Write(STDERR if number % 2 else STDOUT, lines.short(STDERR if number % 2 else STDOUT))
        if lines.rng.random() < 0.5:
            yield Pause(lines.rng.uniform(0.0, 0.04))
    yield End(code=3)


def _binary(lines: _Lines) -> Iterator[Step]:
    """Bytes of every value in pieces that respect neither lines nor characters."""
    rng = lines.rng
    nasty = [b"\0", b"\r\n", b"\r", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f", b'"', b"\\", b"\\n", b"\x1b[31m"]
    nasty += [text.encode() for text in ("\u2028", "\u2029", "\x85", "\ufdd0", "é", "😀", "\ufffd", "\x7f")]
    data = bytearray()
    for _ in range(rng.randint(100, 400)):
        data += rng.choice((bytes(range(256)), rng.randbytes(rng.randint(1, 200)), b"".join(rng.choices(nasty, k=20))))
        if rng.random() < 0.3:
            data += lines.short(STDOUT)
    at = 0
    while at < len(data):
        size = rng.randint(1, 4000)
        yield Write(rng.choice((STDOUT, STDOUT, STDERR)), bytes(data[at : at + size]))
        at += size
        if rng.random() < 0.3:
            yield Pause(rng.uniform(0.0, 0.1))
    yield End(code=0)


def _prompts(lines: _Lines) -> Iterator[Step]:
    """Parts of lines, which are continued later; characters cut in the middle; a last line without an end."""
    for _ in range(lines.rng.randint(4, 9)):
        line = lines.line(STDOUT, lines.text(40) + "prompt äöü 😀".encode() + lines.text(10))
        cut = lines.rng.randint(1, len(line) - 1)
        yield Write(STDOUT, line[:cut])
        yield Pause(lines.rng.choice((0.0, 0.1, 0.3, 0.4)))
        if lines.rng.random() < 0.3:
            yield Write(STDERR, lines.short(STDERR))
        yield Write(STDOUT, line[cut:])
    yield Write(STDOUT, lines.short(STDOUT)[:-1])
    yield End(code=0)


def _brief(lines: _Lines) -> Iterator[Step]:
    for _ in range(lines.rng.randint(0, 3)):
        yield lines.somewhere()
    yield End(code=lines.rng.randint(0, 255))


def _suicide(lines: _Lines) -> Iterator[Step]:
    yield Write(STDERR, lines.short(STDERR))
    yield Pause(lines.rng.uniform(0.0, 0.5))
    numbers = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM, signal.SIGRTMIN + 3)
    yield End(signal=int(lines.rng.choice(numbers)))


def _absent(lines: _Lines) -> Iterator[Step]:
    """Yield an end while no daemon runs."""
    for _ in range(5):
        yield Write(STDOUT, lines.short(STDOUT))
    yield AwaitAbsence()
    for _ in range(lines.rng.randint(0, 20)):
        yield Write(STDERR, lines.short(STDERR))
    ends = (End(code=lines.rng.randint(0, 255)), End(signal=int(signal.SIGTERM)))
    yield lines.rng.choice(ends)


def _long_lines(lines: _Lines) -> Iterator[Step]:
    for _ in range(lines.rng.randint(1, 3)):
        size = lines.rng.choice((LONG_LINE_BYTES, lines.rng.randint(100_000, 3 * LONG_LINE_BYTES)))
        yield Write(STDOUT, lines.line(STDOUT, lines.text(size - 22 + lines.rng.randint(-1, 1))))
        yield Write(STDERR, lines.short(STDERR))
        yield Pause(lines.rng.uniform(0.0, 0.3))
    yield End(code=0)


def _handover(lines: _Lines) -> Iterator[Step]:
    """A grandchild holds the pipes, and writes, after its parent's end."""
    for _ in range(5):
        yield Write(STDOUT, lines.short(STDOUT))
    yield HandOver(code=lines.rng.randint(0, 255))
    for _ in range(lines.rng.randint(5, 40)):
        yield lines.somewhere()
        yield Pause(lines.rng.uniform(0.0, 0.1))
    yield End(code=0)


def _echo(lines: _Lines) -> Iterator[Step]:
    yield Write(STDERR, lines.short(STDERR))
    yield Echo()
    yield End(code=lines.rng.randint(0, 255))


def _terminal(lines: _Lines) -> Iterator[Step]:
    """Yield less than a client of a terminal is sent to show the screen, so that it gets all of it."""
    for _ in range(lines.rng.randint(50, 400)):
        yield Write(STDOUT, lines.short(STDOUT))
        yield Pause(lines.rng.uniform(0.0, 0.02))
    yield End(code=lines.rng.randint(0, 255))


RUNS = 3
"""Executions of a `restarted` child: all but the last of them fail."""


def run_kind(execution: int) -> str:
    """Return the kind of one execution (0, 1, 2 ...) of a `restarted` child, for `steps` and `expected`."""
    return f"{RESTARTED} {execution}"


def _execution(lines: _Lines, number: int) -> Iterator[Step]:
    for _ in range(lines.rng.randint(1, 20)):
        yield lines.somewhere()
        if lines.rng.random() < 0.5:
            yield Pause(lines.rng.uniform(0.0, 0.05))
    yield End(code=lines.rng.randint(1, 255) if number < RUNS - 1 else 0)


_KINDS: dict[str, Callable[[_Lines], Iterator[Step]]] = {
    "flood": _flood,
    "trickler": _trickler,
    "chatter": _chatter,
    "stream": _stream,
    "both": _both,
    "binary": _binary,
    "prompts": _prompts,
    "brief": _brief,
    "suicide": _suicide,
    "absent": _absent,
    "long-lines": _long_lines,
    "handover": _handover,
    "echo": _echo,
    "terminal": _terminal,
}

RESTARTED = "restarted"
"""Kind of a managed child: each of its runs executes the next `run_kind`."""

KINDS = (*_KINDS, RESTARTED)
TERMINAL = "terminal"
"""Kind of a child that runs in a terminal."""
HAS_INPUT = frozenset({"echo", "trickler", "both"})
"""Kinds whose standard input is a pipe. All but `echo` never read it and see that it stays open."""


def steps(seed: int, kind: str) -> Iterator[Step]:
    """Yield what this child does, to its end."""
    lines = _Lines(random.Random(f"{seed} {kind}"))
    name, _, execution = kind.partition(" ")
    return _execution(lines, int(execution)) if name == RESTARTED else _KINDS[kind](lines)


@dataclass(slots=True)
class Expected:
    """Expected output and end of a child. The standard output of `echo` depends on its input."""

    written: dict[int, bytes] = field(default_factory=lambda: {STDOUT: b"", STDERR: b""})
    code: int | None = None
    signal: int | None = None


def expected(seed: int, kind: str) -> Expected:
    """Compute what a child writes and how it ends."""
    result = Expected()
    written: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
    handed_over = False
    for step in steps(seed, kind):
        match step:
            case Write(stream=stream, data=data):
                written[stream].append(data)
            case HandOver(code=code):
                result.code = code
                handed_over = True
            case End(code=code, signal=number) if not handed_over:
                result.code, result.signal = code, number
    result.written = {stream: b"".join(parts) for stream, parts in written.items()}
    return result


def messages(seed: int) -> list[bytes]:
    """Return what is written to the standard input of an `echo`: each begins with a letter that no other has."""
    rng = random.Random(f"{seed} input")
    sizes = [rng.choice((1, 10, 1000, 40_000)) for _ in range(rng.randint(4, 20))]
    sizes[rng.randrange(len(sizes))] = 300_000
    return [
        b"%c%b\n" % (ord("A") + number, rng.randbytes((size + 1) // 2).hex().encode()[:size])
        for number, size in enumerate(sizes)
    ]
