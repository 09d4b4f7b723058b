"""HTTP/1.1 of the blocking client: bodies in each framing, and answers that are none."""

import socket

import pytest

from outlast.client.http1 import BadAnswerError, Connection

OK = b"HTTP/1.1 200 OK\r\n"


def read(sent: bytes, *, pieces: int = 1 << 20) -> tuple[int, dict[str, str], bytes, bool]:
    """Status, headers and body of an answer, and whether its connection can be used again."""
    ours, theirs = socket.socketpair()
    connection = Connection(ours, "host")
    try:
        with theirs:
            for start in range(0, len(sent), pieces):
                theirs.sendall(sent[start : start + pieces])
        reply = connection.answer()
        return reply.status, reply.headers, b"".join(reply.chunks()), connection.is_reusable
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("sent", "body", "stays"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabcX", b"abc", True),
        (OK + b"content-length:0\r\n\r\n", b"", True),
        (OK + b"Content-Length: 3\r\nConnection: close\r\n\r\nabc", b"abc", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
        (OK + b"\r\nto the end", b"to the end", False),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nA;x=y\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", None, True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nTrailer: x\r\n\r\n", b"ab", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", b"a", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    ],
)
def test_a_body_is_read_to_its_end_and_not_beyond(sent: bytes, body: bytes | None, *, stays: bool) -> None:
    body = b"a" + b"\r\n" * 5 if body is None else body
    assert read(sent)[2:] == read(sent, pieces=1)[2:] == (body, stays)


def test_names_of_headers_are_alike_however_they_are_written() -> None:
    status, headers, _, _ = read(b"HTTP/1.1 503 Busy\r\nretry-AFTER:  7 \r\nContent-Length: 0\r\n\r\n")
    assert (status, headers["Retry-After"]) == (503, "7")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 yes\r\n\r\n",
        b"HTTP/1.1 200 " + b"O" * (1 << 17),
        OK + b"A: b\r\n" * 1000,
        OK + b"A: b",
        OK + b"Content-Length: 9\r\n\r\nshort",
        OK + b"Transfer-Encoding: chunked\r\n\r\nz\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nshort",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
    ],
)
def test_an_answer_that_is_none_or_ends_early_is_an_error(sent: bytes) -> None:
    with pytest.raises(BadAnswerError):
        read(sent)


def test_a_request_says_how_long_it_is_and_hides_nothing() -> None:
    ours, theirs = socket.socketpair()
    connection = Connection(ours, "host:1")
    with theirs:
        connection.send("POST", "/a?b=c", {"Authorization": "Bearer t"}, b"body")
        connection.send("GET", "/", {}, None)
        connection.send("DELETE", "/", {}, None)
        connection.close()
        received = theirs.makefile("rb").read()
    common = b"Host: host:1\r\nAccept-Encoding: identity\r\n"
    assert received == b"".join(
        [
            b"POST /a?b=c HTTP/1.1\r\n" + common + b"Content-Length: 4\r\nAuthorization: Bearer t\r\n\r\nbody",
            b"GET / HTTP/1.1\r\n" + common + b"\r\n",
            b"DELETE / HTTP/1.1\r\n" + common + b"Content-Length: 0\r\n\r\n",
        ]
    )
