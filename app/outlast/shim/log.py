"""The shim's log: its standard error."""

from outlast.linux.messages import escape, write_message

_STDERR = 2


def log(sentence: str) -> None:
    """Write a line to the log. It is missing if the disk is full, or nobody reads: neither must stop the shim."""
    write_message(_STDERR, escape(sentence) + "\n")
