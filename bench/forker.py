"""`python -S -m bench.forker COUNT [FILE]`: start processes by fork, eight at a time, each of which waits at a gate.

The yardstick of a start: the cost for any interpreter that must do something before the programs run. With FILE, a line
is appended and synced for each eight processes. Nothing else is done or imported. The figures are printed as JSON.
"""

import os
import resource
import select
import signal
import sys
import time

_AT_ONCE = 8
_PROGRAM = ("/bin/sleep", "3600")


def _start() -> tuple[int, int, int, list[int]]:
    """Fork a process. Return its pid, its gate, a pipe that ends when its program runs, and its output pipes."""
    out, their_out = os.pipe()
    err, their_err = os.pipe()
    opened, gate = os.pipe()
    outcome, ended = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.dup2(null, 0)
            os.dup2(their_out, 1)
            os.dup2(their_err, 2)
            os.close(gate)
            if os.read(opened, 1):
                os.execv(_PROGRAM[0], _PROGRAM)  # noqa: S606 - no shell is the point
        finally:
            os._exit(127)
    for fd in (their_out, their_err, opened, ended, null):
        os.close(fd)
    return pid, gate, outcome, [out, err]


def main(count: int, file: str | None) -> None:
    """Start `count` processes, print the figures, and end them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    log = -1 if file is None else os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pids: list[int] = []
    poll = select.poll()
    began, cpu_s = time.monotonic(), time.process_time()
    while len(pids) < count:
        started = [_start() for _ in range(min(_AT_ONCE, count - len(pids)))]
        if file is not None:
            os.write(log, b"%d\n" % len(pids))
            os.fdatasync(log)
        for _, gate, outcome, _ in started:
            os.write(gate, b"x")
            os.close(gate)
            poll.register(outcome, select.POLLIN)
        left = len(started)
        while left:
            for fd, _ in poll.poll():
                poll.unregister(fd)
                os.close(fd)
                left -= 1
        pids += [pid for pid, *_ in started]
    seconds, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(f'{{"starts/s": {count / seconds}, "CPU ms a start": {cpu_s * 1000 / count}}}')


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)  # noqa: PLR2004 - the words above
