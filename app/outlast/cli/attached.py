"""The terminal of a process, shown in ours until it has ended or the user leaves."""

import os
import select
import signal
import threading
import time
from typing import Any

import click

from outlast.cli.connect import OURS, Failure, exit_code_of, spawn_failure
from outlast.cli.messages import STDIN, say, write_result
from outlast.cli.raw_terminal import RawTerminal, raw_terminal
from outlast.cli.references import word_of
from outlast.client import NotFound, Outlast, OutlastError, Process, SpawnFailed

_DETACH = b"\x1d"
_DETACH_S = 1.0
_READ_BYTES = 1 << 16
_LEAVE_S = 2.0
_RESIZED, _ENDED = b"r", b"e"
_PASSED_ON = ("TERM", "COLORTERM", "LANG")


def _detach_keys(_: click.Context, __: click.Parameter, word: str) -> bytes | None:
    if word == "none":
        return None
    letter = word.lower().removeprefix("ctrl-")
    if len(letter) != 1 or letter not in "abcdefghijklmnopqrstuvwxyz[\\]^_":
        raise click.BadParameter(f"{word!r} is not a key: give ctrl-a to ctrl-z, ctrl-], or none")
    return bytes([ord(letter.upper()) - ord("@")])


DETACH_KEYS = click.option(
    "--detach-keys",
    metavar="KEY",
    default="ctrl-]",
    callback=_detach_keys,
    help="Key that leaves when it is pressed twice, or none. [ctrl-]]",
)


def start_in_terminal(
    ol: Outlast, command: tuple[str, ...], options: dict[str, Any], detach_key: bytes | None, *, removes: bool = False
) -> None:
    """Start a program in a terminal, and show it. `removes`: whether to delete it when it has ended."""
    check_terminal()
    try:
        process = ol.start(*command, **options)
    except SpawnFailed as exc:
        raise spawn_failure(exc, command[0], options) from None
    show_terminal(process, detach_key, removes=removes)


def in_terminal(options: dict[str, Any]) -> dict[str, Any]:
    """Return options of a start in a terminal of our size and kind, if we have one."""
    kind = {name: os.environ[name] for name in _PASSED_ON if os.environ.get(name)}
    return {**options, "env": {**kind, **options.get("env", {})}, "tty": _size() or {}}


def show_terminal(process: Process, detach_key: bytes | None, *, removes: bool = False) -> None:
    """Show the terminal of a process in ours, until it has ended or the user leaves.

    Raises:
        click.exceptions.Exit: with the exit code of the process, or 0 if the user has left.
        Failure: standard input is not a terminal, or the process has none.
    """
    check_terminal()
    if process.info.tty is None:
        raise Failure(f"{process.id} runs in no terminal: use `outlast logs -f` and `outlast send`", OURS)
    try:
        with raw_terminal() as raw:
            attached = _Attached(process, raw, detach_key)
            has_ended = attached.run()
    except NotFound:
        if process.refresh().is_running:
            raise
        has_ended = True
    if not has_ended:
        if not attached.is_at_begin:
            say("", err=True)
        say(f"outlast: left; `outlast attach {word_of(process)}` returns", err=True)
        return
    info = process.wait()
    if removes:
        process.remove()
    raise click.exceptions.Exit(exit_code_of(info.reason, info.exit_code, info.signal))


def check_terminal() -> None:
    """Check that we have a terminal.

    Raises:
        Failure: standard input is none.
    """
    if not os.isatty(STDIN):
        raise Failure(
            "standard input is not a terminal: use `outlast logs -f` to see, and `outlast send` to type", OURS
        )


def _size() -> dict[str, int] | None:
    try:
        size = os.get_terminal_size(STDIN)
    except OSError:
        return None
    return {"rows": size.lines, "cols": size.columns} if size.lines and size.columns else None


class DetachKey:
    """The key that leaves when it is pressed twice within a second. Pressed once, it is typed a little later."""

    def __init__(self, key: bytes | None) -> None:
        """`key`: its byte; None: no key leaves."""
        self._key = key
        self._pressed_at: float | None = None

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what of the keys pressed now is typed, and whether the user leaves."""
        if self._key is None or (self._pressed_at is None and self._key not in data):
            return data, False
        typed = bytearray()
        for number in data:
            if number != self._key[0]:
                typed += self.expired(0)
                typed.append(number)
            elif self.left_s() is not None:
                return bytes(typed), True
            else:
                self._pressed_at = time.monotonic()
        return bytes(typed), False

    def left_s(self) -> float | None:
        """Return the time in which the key may be pressed again. None: it was not pressed."""
        return None if self._pressed_at is None else max(0.0, self._pressed_at + _DETACH_S - time.monotonic())

    def expired(self, left_s: float | None = None) -> bytes:
        """Return the key, which is typed now because its time is over; empty: it was not pressed, or may yet be."""
        left_s = self.left_s() if left_s is None else left_s
        if self._pressed_at is None or left_s:
            return b""
        self._pressed_at = None
        return self._key or b""


class _Attached:
    """A terminal that is shown. The main thread types, another one shows: neither waits for the other.

    Attributes:
        is_at_begin: whether what was shown has ended with a line end.
    """

    def __init__(self, process: Process, raw: RawTerminal, detach_key: bytes | None) -> None:
        self.is_at_begin = True
        self._terminal = process.attach()
        self._raw = raw
        self._key = DetachKey(detach_key)
        self._told, self._tell = os.pipe()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._show, daemon=True)

    def run(self) -> bool:
        """Type and show until the program has ended (True), or the user leaves."""
        previous = signal.signal(signal.SIGWINCH, lambda *_: os.write(self._tell, _RESIZED))
        try:
            self._resize()
            self._thread.start()
            has_ended = self._type()
        finally:
            signal.signal(signal.SIGWINCH, previous)
            self._terminal.close()
            self._thread.join(_LEAVE_S)
        if self._error is not None:
            raise self._error
        return has_ended

    def _type(self) -> bool:
        poll = select.poll()
        poll.register(STDIN, select.POLLIN)
        poll.register(self._told, select.POLLIN)
        while True:
            left_s = self._key.left_s()
            ready = [fd for fd, _ in poll.poll(None if left_s is None else left_s * 1000 + 1)]
            self._send(self._key.expired())
            if self._told in ready:
                told = os.read(self._told, _READ_BYTES)
                if _ENDED in told:
                    return True
                self._resize()
            if STDIN in ready:
                data = _keys()
                typed, leaves = self._key.feed(data)
                self._send(typed)
                if leaves or not data:
                    return False

    def _send(self, typed: bytes) -> None:
        if typed:
            self._terminal.send(typed)

    def _resize(self) -> None:
        size = _size()
        if size is not None:
            self._terminal.resize(**size)

    def _show(self) -> None:
        try:
            for piece in self._terminal.output():
                self._raw.shown(piece)
                self.is_at_begin = piece.endswith(b"\n") if piece else self.is_at_begin
                write_result(piece)
        except (OutlastError, OSError) as exc:
            self._error = exc
        finally:
            os.write(self._tell, _ENDED)


def _keys() -> bytes:
    """Return the keys that were pressed; empty: our terminal was hung up."""
    try:
        return os.read(STDIN, _READ_BYTES)
    except OSError:
        return b""
