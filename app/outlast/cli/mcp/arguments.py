"""Arguments that several tools take."""

import time
from typing import Annotated, Literal

from pydantic import Field

from outlast.cli.moments import read_moment
from outlast.model.errors import InvalidRequest

Ref = Annotated[str, Field(description="Process: its name, its @ID such as @12, or its pid.")]
Stream = Annotated[Literal["both", "stdout", "stderr"], Field(description="Which output.")]
CountOf = Annotated[int, Field(ge=1, le=1000, description="Most that are given.")]
Moment = Annotated[str | None, Field(description="Time: 10m (ago), 09:30, 2026-11-27, RFC 3339, or @ and seconds.")]


def milliseconds(word: str | None) -> int | None:
    """Return a time as milliseconds since the Unix epoch.

    Raises:
        InvalidRequest: it is none.
    """
    if word is None:
        return None
    try:
        return read_moment(word, time.time_ns() // 1_000_000, None)
    except (ValueError, OverflowError, OSError):
        raise InvalidRequest(f"{word!r} is not a time: write 10m (ago), 09:30, 2026-11-27 or RFC 3339") from None


def stream_of(word: str) -> str | None:
    """Return the stream that is asked for; None: both."""
    return None if word == "both" else word
