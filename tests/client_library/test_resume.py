"""The rule by which streams go on and calls are repeated, without a connection."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from outlast.client import (
    Disconnected,
    Event,
    Forbidden,
    Gap,
    Interrupted,
    Line,
    NotFound,
    ProcessGone,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from outlast.client.attachment import Attachment
from outlast.client.blocks import Splitter
from outlast.client.request import Answer, Attempts, Backoff, Request
from outlast.client.running import Running
from outlast.client.stored import StoredBytes, StoredLines
from outlast.client.subscription import Events, Follow, Subscription

BROKEN = Disconnected("broken", sent=True)
REFUSED = Disconnected("refused", sent=False)
EOF = b'id: 9-eof\nevent: eof\ndata: {"status":"exited"}\n\n'
HEARTBEAT = b": keep-alive\n\n"


def line(seq: int, text: str = "x\n") -> bytes:
    data = json.dumps({"line": text, "timestamp": 5, "stream": "stdout"}).encode()
    return b"id: %d\nevent: output\ndata: %b\n\n" % (seq, data)


def run_line(seq: int, text: str, stream: str = "stdout") -> bytes:
    return b"id: %d\ndata: %b\n\n" % (seq, json.dumps({"line": text, "timestamp": 5, "stream": stream}).encode())


def error(code: str) -> bytes:
    return json.dumps({"error": "a sentence", "code": code}).encode()


def opened(stream: Subscription[Any], status: int = 200, body: bytes = b"", **headers: str) -> Request:
    """Connect a stream, and return the request that it made."""
    request = stream.request()
    stream.opened(status, headers, body)
    return request


def follow(query: Mapping[str, Any] | None = None, **options: Any) -> Follow:
    return Follow("/processes/x/output/follow", query or {}, **options)


def seqs(items: list[Line | Gap]) -> list[int]:
    return [item.seq if isinstance(item, Line) else item.first for item in items]


# ---- what is asked for


def test_a_follow_goes_on_behind_its_last_line() -> None:
    stream = follow()
    assert "Last-Event-ID" not in opened(stream).headers
    assert seqs(stream.feed(line(1) + line(2))) == [1, 2]
    stream.broke(BROKEN)
    assert stream.request().headers["Last-Event-ID"] == "2"


def test_a_follow_that_breaks_before_its_first_line_goes_on_behind_after() -> None:
    stream = follow({"after": 7})
    opened(stream)
    stream.broke(BROKEN)
    assert stream.request().headers["Last-Event-ID"] == "7"


def test_ids_that_have_come_are_passed_over() -> None:
    stream = follow()
    opened(stream)
    assert seqs(stream.feed(line(1) + line(2) + line(2) + line(1) + line(3))) == [1, 2, 3]
    stream.broke(BROKEN)
    opened(stream)
    assert seqs(stream.feed(line(2) + line(3) + line(4))) == [4]


def test_an_event_that_is_cut_is_forgotten_with_its_connection() -> None:
    stream = follow()
    opened(stream)
    assert stream.feed(line(1)[:-5]) == []
    stream.broke(BROKEN)
    opened(stream)
    assert seqs(stream.feed(line(1))) == [1]


def test_events_are_the_same_in_whatever_pieces_they_come() -> None:
    body = (
        HEARTBEAT + line(1) + b'id: 2\nevent: gap\ndata: {"from":2,"to":4,"reason":"lost"}\n\n' + line(5, "rest") + EOF
    )
    for size in (1, 2, 3, 7, len(body)):
        stream = follow()
        opened(stream)
        items = [item for at in range(0, len(body), size) for item in stream.feed(body[at : at + size])]
        assert items == [Line(1, "x", "stdout", 5), Gap(2, 4, "lost"), Line(5, "rest", "stdout", 5, complete=False)]
        assert stream.is_over


def test_the_last_lines_are_asked_for_once() -> None:
    stream = follow({"tail": 2}, newest=10)
    assert opened(stream).query["tail"] == 2
    assert seqs(stream.feed(line(9) + line(10))) == [9, 10]
    stream.broke(BROKEN)
    request = stream.request()
    assert (request.query["tail"], request.headers["Last-Event-ID"]) == (None, "10")


def test_lines_that_come_while_nothing_is_connected_are_not_left_out_by_tail() -> None:
    none, some = follow({"tail": 0}, newest=10), follow({"tail": 2}, newest=10)
    for stream in (none, some):
        opened(stream)
        stream.broke(BROKEN)
    assert none.request().headers["Last-Event-ID"] == "10"
    assert opened(some).query["tail"] == 2
    with pytest.raises(Disconnected):
        some.feed(line(14) + line(15))  # and 11 to 13, which came meanwhile?
    assert opened(some).headers["Last-Event-ID"] == "10"
    assert seqs(some.feed(line(11))) == [11]


def test_a_stream_that_is_begun_again_is_not_over_although_its_end_has_come() -> None:
    stream = follow({"tail": 2}, newest=10)
    opened(stream)
    stream.broke(BROKEN)
    opened(stream)
    with pytest.raises(Disconnected):
        stream.feed(line(14) + line(15) + EOF)
    assert not stream.is_over
    opened(stream)
    assert seqs(stream.feed(line(11) + EOF)) == [11]
    assert stream.is_over


def test_events_go_on_behind_the_last_one() -> None:
    stream = Events("/events", {"after": None, "tail": None})
    opened(stream)
    data: dict[str, Any] = {
        "type": "started",
        "process_id": "P",
        "name": None,
        "tags": {},
        "pid": 1,
        "run": 1,
        "timestamp": 5,
        "new": 1,
    }
    block = b"id: %d\nevent: started\ndata: " + json.dumps(data).encode() + b"\n\n"
    assert stream.feed(block % 3) == [Event(3, "started", "P", None, {}, 1, 1, 5)]
    stream.broke(BROKEN)
    assert opened(stream).headers["Last-Event-ID"] == "3"
    assert stream.feed(block % 3 + block % 4) == [Event(4, "started", "P", None, {}, 1, 1, 5)]


def test_stored_lines_go_on_behind_the_last_one() -> None:
    stream = StoredLines("/x", {"limit": 3, "tail": 5}, None)
    opened(stream)
    row = b'{"id":%d,"line":"x\\n","timestamp":5,"stream":"stdout"}\n'
    assert seqs(stream.feed(row % 4 + row % 5 + (row % 6)[:9])) == [4, 5]
    stream.broke(BROKEN)
    assert opened(stream).query == {"limit": 1, "tail": None, "after": 5}
    stream.feed(row % 6)
    assert stream.is_over


def test_stored_bytes_go_on_behind_the_last_one() -> None:
    stream = StoredBytes("/x", {}, None)
    opened(stream)
    assert stream.feed(b"abc") == [b"abc"]
    stream.broke(BROKEN)
    opened(stream)
    assert [*stream.feed(b"ab"), *stream.feed(b"cde")] == [b"de"]
    moving = StoredBytes("/x", {"tail": 1}, None)
    opened(moving)
    moving.feed(b"abc")
    with pytest.raises(Disconnected):
        moving.request()


def test_a_run_is_asked_for_again_with_its_key_and_its_lines_are_counted() -> None:
    first = b'data: {"pid":1,"started_at":5,"id":"P"}\n\n'
    stream = Running(b'{"idempotency_key":"K"}', None, None)
    began = opened(stream)
    assert len(stream.feed(first + run_line(1, "a") + run_line(1, "b", "stderr") + run_line(3, "c"))) == 4
    stream.broke(BROKEN)
    look = stream.look_before()
    assert look is not None
    assert look.path == "/processes/P"
    stream.looked(Answer(200, {}, b"{}"))
    assert opened(stream) == began
    # A part of a line of the other stream waits, so ids repeat and the order between the streams is another one.
    items = stream.feed(first + run_line(1, "a") + run_line(1, "c") + run_line(2, "b", "stderr") + run_line(4, "d"))
    assert [getattr(item, "text", None) for item in items] == ["d"]
    (end,) = stream.feed(b'data: {"exit_code":3,"oom_killed":false,"reason":"exited"}\n\n')
    assert getattr(end, "exit_code", None) == 3
    assert (stream.is_over, stream.unfinished) == (True, [])


def test_a_run_whose_process_is_gone_is_not_started_again() -> None:
    first = b'data: {"pid":1,"started_at":5,"id":"%b"}\n\n'
    stream = Running(b"{}", None, None)
    opened(stream)
    stream.feed(first % b"P")
    with pytest.raises(ProcessGone):
        stream.feed(first % b"Q")
    assert stream.unfinished == ["P", "Q"]  # what the client kills
    with pytest.raises(ProcessGone):
        stream.looked(Answer(404, {}, error("NOT_FOUND")))


# ---- how it ends


def test_a_stream_that_the_daemon_ends_before_eof_is_broken() -> None:
    stream = follow()
    opened(stream)
    with pytest.raises(Disconnected):
        stream.ended()
    stream.feed(EOF)
    stream.ended()
    assert opened(resumed := follow(), status=204) is not None
    assert resumed.is_over


@pytest.mark.parametrize(
    ("status", "code", "raised"),
    [
        (401, "UNAUTHORIZED", Unauthorized),
        (403, "FORBIDDEN", Forbidden),
        (404, "NOT_FOUND", NotFound),
    ],
)
def test_a_refused_stream_raises(status: int, code: str, raised: type[Exception]) -> None:
    with pytest.raises(raised, match="a sentence"):
        opened(follow(), status, error(code))
    again = follow()
    opened(again)
    again.broke(BROKEN)
    with pytest.raises(ProcessGone if raised is NotFound else raised):
        opened(again, status, error(code))


def test_an_answer_of_another_server_raises() -> None:
    with pytest.raises(UnexpectedAnswer, match="<html>"):
        opened(follow(), 502, b"<html>")


def test_a_daemon_that_is_not_available_is_asked_again_when_it_says() -> None:
    stream = follow()
    stream.request()
    assert not stream.opened(503, {"Retry-After": "3"}, error("UNAVAILABLE"))
    assert (stream.pause_s, stream.is_over) == (3.0, False)


def test_a_daemon_that_was_never_reached_is_not_waited_for() -> None:
    with pytest.raises(Disconnected):
        follow().broke(REFUSED)
    stream = follow()
    opened(stream)
    stream.broke(REFUSED)


def test_pauses_grow_to_five_seconds_and_begin_again_after_an_event() -> None:
    backoff = Backoff()
    pauses = [backoff.pause_s() for _ in range(12)]
    assert 0.025 <= pauses[0] <= 0.05
    assert all(2.5 <= pause <= 5 for pause in pauses[8:])
    stream = follow()
    for _ in range(12):
        opened(stream)
        stream.feed(HEARTBEAT)
        stream.broke(BROKEN)
    assert stream.pause_s >= 2.5
    stream.feed(line(1))
    stream.broke(BROKEN)
    assert stream.pause_s <= 0.05


def test_a_stream_is_given_up_after_a_time_without_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("outlast.client.subscription.time.monotonic", lambda: now)
    stream, patient = follow(give_up_after_s=10.0), follow()
    for each in (stream, patient):
        opened(each)
        each.broke(BROKEN)
    now += 9
    opened(stream)
    stream.broke(BROKEN)
    now += 2
    with pytest.raises(Disconnected):
        stream.broke(BROKEN)
    stream.feed(line(1))
    stream.broke(BROKEN)
    now += 1e9
    patient.broke(BROKEN)


def test_the_hook_is_told_where_a_stream_goes_on() -> None:
    told: list[int] = []
    stream = follow(on_reconnect=told.append)
    opened(stream)
    stream.feed(line(4))
    stream.broke(BROKEN)
    assert told == []
    opened(stream)
    assert told == [4]


def test_a_stream_may_be_silent_for_three_heartbeats() -> None:
    assert follow().request().silent_s == 45


def test_a_long_block_is_put_together_once() -> None:
    splitter = Splitter(b"\n\n")
    assert splitter.split(b"a\n") == []
    assert splitter.split(b"\nb\n") == [b"a"]
    assert splitter.split(b"c\n\n\n") == [b"b\nc"]
    assert splitter.split(b"d\n\n") == [b"\nd"]


# ---- calls


def test_what_may_be_done_twice_is_repeated() -> None:
    attempts = Attempts(Request("GET", "/x"), None)
    assert attempts.broke(BROKEN) < 1
    assert attempts.broke(REFUSED) < 1
    assert attempts.answered(Answer(503, {"Retry-After": "2"}, error("UNAVAILABLE"))) == 2
    assert attempts.answered(Answer(500, {}, error("INTERRUPTED"))) is not None
    assert attempts.answered(Answer(404, {}, error("NOT_FOUND"))) is None
    assert attempts.unanswered
    with pytest.raises(Disconnected):
        Attempts(Request("GET", "/x"), None).broke(REFUSED)  # it was never reached


def test_what_must_not_be_done_twice_is_not_repeated() -> None:
    attempts = Attempts(Request("POST", "/x", repeatable=False), None)
    with pytest.raises(Interrupted):
        attempts.broke(BROKEN)
    assert attempts.answered(Answer(500, {}, error("INTERRUPTED"))) is None
    assert attempts.answered(Answer(503, {}, error("UNAVAILABLE"))) == 1  # nothing was done


def test_a_call_is_given_up_after_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("outlast.client.request.time.monotonic", lambda: now)
    attempts = Attempts(Request("GET", "/x"), 30.0)
    attempts.broke(BROKEN)
    now += 31
    with pytest.raises(Disconnected):
        attempts.broke(BROKEN)
    unavailable = Answer(503, {}, error("UNAVAILABLE"))
    assert attempts.answered(unavailable) is None
    with pytest.raises(Unavailable):
        unavailable.check()


def test_the_time_of_silence_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("outlast.client.request.time.monotonic", lambda: now)
    broken, silent = Attempts(Request("GET", "/x"), 30.0), Attempts(Request("GET", "/x"), 30.0)
    now += 45
    broken.broke(BROKEN)  # it may have waited for 45 s, as a call that waits does
    silence = Disconnected("silent", sent=True)
    silence.__cause__ = TimeoutError()
    with pytest.raises(Disconnected, match="silent"):
        silent.broke(silence)


def test_a_screen_is_given_with_its_position() -> None:
    """A connection that breaks between the two is made again, and shows the screen again."""
    terminal = Attachment("ID", None, None)
    terminal.request()
    assert terminal.feed(b"\x82\x04\x00abc") == []
    assert terminal.request().target.endswith("positions=true")
    assert terminal.feed(b"\x82\x04\x00abc") == []
    assert terminal.feed(b"\x82\x09\x04" + (9).to_bytes(8, "big")) == [b"abc"]
    assert terminal.feed(b"\x82\x02\x00d") == [b"d"]
    assert terminal.request().target.endswith("after=10")
