"""A strict reader of Server-Sent Events, by https://html.spec.whatwg.org/multipage/server-sent-events.html."""

import re
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Event:
    name: str
    data: str
    last_id: str


def parse(stream: bytes) -> tuple[list[Event], list[str]]:
    """Return the events and the comments. Fail on a field that is never sent, and on an unfinished event."""
    text = stream.decode("utf-8", "strict")
    events: list[Event] = []
    comments: list[str] = []
    name, data, last_id = "", [], ""
    lines = _LINE_END.split(text)
    assert lines.pop() == "", "the stream ends inside a line"
    for line in lines:
        if line == "":
            if data:
                events.append(Event(name or "message", "\n".join(data), last_id))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "":
            comments.append(value)
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id":
            assert "\0" not in value
            last_id = value
        else:
            raise AssertionError(f"unknown field {field!r}")
    assert not data, "the stream ends inside an event"
    return events, comments
