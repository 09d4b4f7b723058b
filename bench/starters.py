"""`python -m bench.starters WAY COUNT [...]`: start processes, eight at a time, and print the figures as JSON.

`http HOST PORT` starts them by a daemon, with the authorization that standard input holds. The client does as little
as possible, because it shares the processors. `asyncio` starts them by asyncio alone. `run HOST PORT` and `asyncio-run`
run another program, which ends at once, and go on when they know how it has ended and what it has printed.
"""

import asyncio
import json
import resource
import select
import signal
import socket
import sys
import time

CLIENTS = 8
ARGV = ("sleep", "3600")
BRIEF_ARGV = ("true",)
_CREATED = b"HTTP/1.1 201 "
_STREAM = b"HTTP/1.1 200 "
_LAST_CHUNK = b"0\r\n\r\n"
_EXIT = b'"exit_code":0'
_RECEIVE_BYTES = 64 << 10


class _Client:
    """One connection that is kept, with a request under way."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self.sock = socket.create_connection((host, port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._answer = b""

    def ask(self) -> None:
        """Send a request."""
        self._answer = b""
        self.sock.sendall(self._request)

    def is_answered(self) -> bool:
        """Receive, and return whether the answer is complete.

        Raises:
            RuntimeError: nothing was started.
        """
        data = self.sock.recv(_RECEIVE_BYTES)
        self._answer += data
        head, blank, body = self._answer.partition(b"\r\n\r\n")
        if not data or (blank and not head.startswith((_CREATED, _STREAM))):
            raise RuntimeError(f"a start was refused: {self._answer!r}")
        if head.startswith(_STREAM):
            return body.endswith(_LAST_CHUNK) and _EXIT in body
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        return bool(blank) and len(body) == int(length)


def by_http(count: int, host: str, port: int, authorization: str, *, to_the_end: bool) -> dict[str, float]:
    """Let a daemon start `count` processes. `to_the_end`: of the brief program, by `run`."""
    argv = BRIEF_ARGV if to_the_end else ARGV
    body = json.dumps({"command": argv[0], "args": argv[1:]})
    head = [
        f"POST /api/v1/processes{'/run' if to_the_end else ''} HTTP/1.1",
        f"Host: {host}:{port}",
        f"Authorization: {authorization}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    request = "\r\n".join((*head, "", body)).encode()
    clients = {client.sock.fileno(): client for client in (_Client(host, port, request) for _ in range(CLIENTS))}
    poll = select.epoll()
    started = time.monotonic()
    asked = answered = 0
    for fd, client in clients.items():
        poll.register(fd, select.EPOLLIN)
        if asked < count:
            client.ask()
            asked += 1
    while answered < count:
        for fd, _ in poll.poll():
            if clients[fd].is_answered():
                answered += 1
                if asked < count:
                    clients[fd].ask()
                    asked += 1
    return {"starts/s": count / (time.monotonic() - started)}


async def by_asyncio(count: int, *, to_the_end: bool) -> dict[str, float]:
    """Start `count` processes with the descriptors that Outlast gives them. `to_the_end`: of the brief program."""
    argv = BRIEF_ARGV if to_the_end else ARGV
    processes: list[asyncio.subprocess.Process] = []
    numbers = iter(range(count))

    async def client() -> None:
        for _ in numbers:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            if to_the_end:
                await process.communicate()
            else:
                processes.append(process)

    started, cpu_s = time.monotonic(), time.process_time()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    figures = {
        "starts/s": count / (time.monotonic() - started),
        "CPU ms a start": (time.process_time() - cpu_s) * 1000 / count,
    }
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        await process.wait()
    return figures


def main() -> None:
    """Start processes by the way that the arguments name, and print the figures."""
    way, count, *rest = sys.argv[1:]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if way in {"http", "run"}:
        host, port = rest
        authorization = sys.stdin.readline().strip()
        figures = by_http(int(count), host, int(port), authorization, to_the_end=way == "run")
    else:
        figures = asyncio.run(by_asyncio(int(count), to_the_end=way == "asyncio-run"))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
