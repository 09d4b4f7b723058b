"""Writing to standard inputs, as fast as the processes read."""

from collections.abc import Callable

from outlast.shim.event_loop import BROKEN, OUT, Loop
from outlast.shim.state.child import Child, PendingInput

_END_IS_SEEN_S = 0.02
"""Time within which the end of a process is seen after its standard input broke."""


class StdinWriter:
    """A writer to standard inputs.

    Each request is answered when its bytes are in the pipe, or with `ended` or `closed`.
    """

    def __init__(
        self, loop: Loop, answer: Callable[[PendingInput, str | None], None], on_closed: Callable[[Child], None]
    ) -> None:
        self._loop = loop
        self._answer = answer
        self._on_closed = on_closed

    def start_writing(self, child: Child) -> None:
        """Write the pending input of a process, and all that follows."""
        if child.stdin is not None:
            self._loop.add_handler(child.stdin, 0, lambda events: self._on_event(child, events))
            self._advance(child)

    def write(self, child: Child, pending: PendingInput) -> None:
        """Write input behind what is pending."""
        if child.reaped:
            self._answer(pending, "ended")
        elif child.stdin is None or child.close_stdin_after_input:
            self._answer(pending, "closed")
        else:
            child.input.append(pending)
            self._advance(child)

    def close_after_input(self, child: Child) -> None:
        """Close a standard input when all pending input is written."""
        if child.stdin is not None:
            child.close_stdin_after_input = True
            self._advance(child)

    def close_now(self, child: Child, why: str) -> None:
        """Close a standard input, and answer all pending input with `why`."""
        if child.stdin is None:
            return
        self._loop.close_fd(child.stdin)
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
        if child.stdin is None or not self._loop.has_handler(child.stdin):
            return
        try:
            more = child.write_stdin(lambda pending: self._answer(pending, None))
        except BrokenPipeError:
            self._on_broken(child)
            return
        if not more and child.close_stdin_after_input:
            self.close_now(child, "closed")
        else:
            self._loop.set_events(child.stdin, OUT if more else 0)

    def _on_broken(self, child: Child) -> None:
        # No process reads the pipe any more. A process that ends closes its descriptors just before its end is seen:
        # then the answer is `ended`.
        if child.stdin is not None:
            self._loop.remove_handler(child.stdin)
            self._loop.call_later(_END_IS_SEEN_S, lambda: self.close_now(child, "closed"))
