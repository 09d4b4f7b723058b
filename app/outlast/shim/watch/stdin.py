"""Writing to standard inputs, as far as the processes read."""

from collections.abc import Callable

from outlast.shim.event_loop import BROKEN, OUT, Loop
from outlast.shim.state.child import Child, PendingInput

END_IS_SEEN_S = 0.02


class StdinWriter:
    """Answers each request when its bytes are in the pipe, or with why they can't be: `ended` or `closed`."""

    def __init__(
        self, loop: Loop, answer: Callable[[PendingInput, str | None], None], on_closed: Callable[[Child], None]
    ) -> None:
        self._loop = loop
        self._answer = answer
        self._on_closed = on_closed

    def watch(self, child: Child) -> None:
        """Begin to write what is pending and what comes."""
        if child.stdin is not None:
            self._loop.watch(child.stdin, 0, lambda events: self._on_event(child, events))
            self._advance(child)

    def write(self, child: Child, pending: PendingInput) -> None:
        """Write as the pipe takes it."""
        if child.reaped:
            self._answer(pending, "ended")
        elif child.stdin is None or child.close_stdin_after_input:
            self._answer(pending, "closed")
        else:
            child.input.append(pending)
            self._advance(child)

    def close(self, child: Child) -> None:
        """Close it behind what is pending."""
        if child.stdin is not None:
            child.close_stdin_after_input = True
            self._advance(child)

    def end(self, child: Child, why: str) -> None:
        """Close it now, and answer what is pending with `why`."""
        if child.stdin is None:
            return
        self._loop.close(child.stdin)
        child.stdin = None
        while child.input:
            self._answer(child.input.popleft(), why)
        self._on_closed(child)

    def _on_event(self, child: Child, events: int) -> None:
        if events & BROKEN:
            self._on_broken(child)
        else:
            self._advance(child)

    def _advance(self, child: Child) -> None:
        if child.stdin is None or not self._loop.watches(child.stdin):
            return
        try:
            more = child.write_stdin(lambda pending: self._answer(pending, None))
        except BrokenPipeError:
            self._on_broken(child)
            return
        if not more and child.close_stdin_after_input:
            self.end(child, "closed")
        else:
            self._loop.modify(child.stdin, OUT if more else 0)

    def _on_broken(self, child: Child) -> None:
        """Nobody reads it any more. A process that ends closes its descriptors just before its end can be seen."""
        if child.stdin is not None:
            self._loop.unwatch(child.stdin)
            self._loop.later(END_IS_SEEN_S, lambda: self.end(child, "closed"))
