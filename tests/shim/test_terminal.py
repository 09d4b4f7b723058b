"""The output of a terminal in the shim: nothing is lost if the shim dies between the terminal and the file."""

import os
import select
import termios

import pytest

from outlast.model.output import Stream
from outlast.shim.launch.terminal import open_terminal
from outlast.shim.state.buffer import StreamBuffer, memory_segment
from outlast.shim.state.child import Child
from outlast.shim.state.frames import STDOUT
from outlast.shim.state.quota import BufferUsage
from outlast.wire.fds import close_all
from tests.shim.test_child import RECORD, hand_over, hold
from tests.support.waiting import DEADLINE_S


class Terminal:
    """A terminal as the shim has it. The test is the program."""

    def __init__(self, usage: BufferUsage) -> None:
        master, self.slave = open_terminal(24, 80, None)
        relay = os.pipe()
        for fd in (master, *relay):
            os.set_blocking(fd, False)
        attributes = termios.tcgetattr(self.slave)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(self.slave, termios.TCSANOW, attributes)
        self.child = Child(1, RECORD, None, usage)
        self.child.pid, self.child.started = 4711, True
        self.buffer = StreamBuffer(master, [memory_segment(0)], relay=relay)
        self.child.streams[STDOUT] = self.buffer


def output_of(child: Child) -> bytes:
    """Read until nothing comes, and return all that the child's first file has."""
    while child.read_stream(STDOUT):
        pass
    return os.pread(child.streams[STDOUT].segments[0].fd, 1 << 20, 0)


def close(child: Child) -> None:
    pipe = child.streams[STDOUT].pipe
    assert pipe is not None
    os.close(pipe)
    child.streams[STDOUT].close()


@pytest.mark.parametrize("copies", [False, True])
def test_output_is_read_in_order_until_nobody_has_the_terminal_open(copies: bool) -> None:
    terminal = Terminal(BufferUsage())
    terminal.buffer._copies_from_master = terminal.buffer._copies = copies
    written = b""
    for number in range(200):
        piece = b"%d " % number * 300
        os.write(terminal.slave, piece)
        written += piece
        assert output_of(terminal.child) == written
    assert not terminal.child.ends
    os.write(terminal.slave, b"last")
    os.close(terminal.slave)
    assert output_of(terminal.child) == written + b"last"
    assert [end.offset for end in terminal.child.ends] == [len(written) + 4]
    close(terminal.child)


def test_what_is_on_its_way_when_the_shim_dies_is_there_for_the_next_one() -> None:
    usage = BufferUsage()
    terminal = Terminal(usage)
    os.write(terminal.slave, b"before ")
    output_of(terminal.child)
    held = hold(terminal.child)
    os.write(terminal.slave, b"on its way ")
    assert terminal.buffer.pipe is not None
    terminal.buffer._fill_relay(terminal.buffer.pipe)  # the shim dies here
    os.write(terminal.slave, b"after")
    close(terminal.child)
    child = hand_over(held, usage)
    assert output_of(child) == b"before on its way after"
    held.close()
    close_all([terminal.slave])
    close(child)


def test_the_daemon_sees_how_far_a_terminal_is_written() -> None:
    terminal = Terminal(BufferUsage())
    held = hold(terminal.child)
    os.write(terminal.slave, b"stored ")
    output_of(terminal.child)
    os.write(terminal.slave, b"relayed ")
    assert terminal.buffer.pipe is not None
    terminal.buffer._fill_relay(terminal.buffer.pipe)
    os.write(terminal.slave, b"waiting")
    assert select.select([terminal.buffer.pipe], [], [], DEADLINE_S)[0]
    assert held.written_to(Stream.STDOUT) == len(b"stored relayed waiting")
    output_of(terminal.child)
    assert held.written_to(Stream.STDOUT) == len(b"stored relayed waiting")
    held.close()
    os.close(terminal.slave)
    close(terminal.child)


def test_a_terminal_has_its_size_and_erases_whole_characters() -> None:
    master, slave = open_terminal(30, 100, None)
    assert termios.tcgetwinsize(master) == (30, 100)
    os.write(master, "aé\x7fb\n".encode())
    assert os.read(slave, 100) == b"ab\n"
    close_all([master, slave])
