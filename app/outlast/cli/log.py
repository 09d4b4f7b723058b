"""The log of the daemon, on standard error."""

import json
import logging
from datetime import UTC, datetime

from outlast.cli.messages import STDERR
from outlast.linux.messages import escape, write_message


def start_log(level: str, form: str) -> None:
    """Log to standard error.

    Args:
        level: the least severe messages that are logged, as the setting `log_level` has it.
        form: `text` or `json`, as the setting `log_format` has it.
    """
    handler = _Handler()
    text = _Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_JsonFormatter() if form == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler])


class _Formatter(logging.Formatter):
    """A formatter that lets no text of others begin a line. Lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        return escape(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 - likewise
        return _indent(super().formatException(ei))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - likewise
        return _indent(super().formatStack(stack_info))


class _JsonFormatter(logging.Formatter):
    """A formatter that makes a JSON object of each record. JSON's escapes keep it in one line of ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        fields = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields)


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
            text = f"{self._missing(record)}\n{text}"
        self._dropped = 0 if write_message(STDERR, text) else self._dropped + 1

    def _missing(self, record: logging.LogRecord) -> str:
        sentence = f"{self._dropped} messages are missing here: standard error did not take them"
        if not isinstance(self.formatter, _JsonFormatter):
            return sentence
        told = logging.LogRecord(__name__, logging.WARNING, "", 0, sentence, None, None)
        told.created = record.created
        return self.format(told)
