"""The log of the daemon, on standard error."""

import logging

from outlast.cli.messages import STDERR
from outlast.linux.messages import escape, write_message


def start_log() -> None:
    """Log to standard error, from INFO on."""
    handler = _Handler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _Formatter(logging.Formatter):
    """A formatter that lets no text of others begin a line. Lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        return escape(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 - likewise
        return _indent(super().formatException(ei))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - likewise
        return _indent(super().formatStack(stack_info))


def _indent(text: str) -> str:
    return "\n".join(f"  {escape(line)}" for line in text.split("\n"))


class _Handler(logging.Handler):
    """A handler that drops what standard error does not take now, and says how much that was when it does again."""

    def __init__(self) -> None:
        super().__init__()
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record) + "\n"
        if self._dropped:
            text = f"{self._dropped} messages are missing here: standard error did not take them\n{text}"
        self._dropped = 0 if write_message(STDERR, text) else self._dropped + 1
