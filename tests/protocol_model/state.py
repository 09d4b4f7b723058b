"""States: small, hashable, and replaced as a whole by every step."""

from typing import Literal, NamedTuple

PIPE_HOLDS = 2  # characters
WINDOW = 2  # characters that the shim tells of before they are acknowledged
STARTED, FAILED = 1, 2  # what an INVENTORY says of a start; 0: nothing yet

Gate = Literal["none", "told", "attach"]


class Message(NamedTuple):
    """A message. What the numbers mean depends on its kind."""

    kind: str
    first: int = 0
    second: int = 0
    told: int = 0


class Design(NamedTuple):
    """The protocol's mechanisms. Each False takes one away, to see that it is needed.

    Attributes:
        gate: what a forked process waits for before it runs its program: the daemon's first ATTACH, which follows the
            record in the store. Not enough: nothing, or that the daemon was told of it.
        tells_starts: an inventory tells also of starts that wait or whose outcome is not known, and waits for none.
        keeps_failed: a start that has failed stays known in the shim until the daemon says FORGET.
        withdraws_first: the record of a failed start is withdrawn before the shim may forget it.
        ends_in_inventory: the shim or daemon that takes a process over knows which of its pipes had ended already.
        outcome_stays: what became of a start can be read again by the next shim when one has read it and died.
        keeps_what_was_told: a daemon goes on with what an inventory told that broke off.
        reads_older_first: the shim reads an older connection to its end before it listens to a newer one.
        shows_parts_stored: a part of a line, and what comes behind it, is shown once the part is stored.
        parts_only_new: a daemon cuts no part before it has read all that an earlier daemon was sent.
        skips_numbers: the gap of a lost process has a number beyond all that followers can have been shown.
    """

    gate: Gate = "attach"
    acks_after_commit: bool = True
    position_with_lines: bool = True
    looks_at_size: bool = True
    tells_starts: bool = True
    keeps_failed: bool = True
    withdraws_first: bool = True
    retells_exit: bool = True
    forgets_after_complete: bool = True
    parts_lines: bool = True
    ends_in_inventory: bool = True
    outcome_stays: bool = True
    keeps_what_was_told: bool = True
    reads_older_first: bool = True
    shows_parts_stored: bool = True
    parts_only_new: bool = True
    skips_numbers: bool = True


class Bounds(NamedTuple):
    """Bounds of an exploration.

    Attributes:
        output: what the process writes, character after character.
        daemon_deaths: how often the daemon may be killed; `shim_deaths` likewise.
        cuts: how often a connection may break between two that live: shim and daemon, or daemon and client.
        queue: messages on their way in each direction; 0: each is handled as it is sent.
        refusals: whether the program may turn out not to be startable.
    """

    output: str = "x\n"
    daemon_deaths: int = 1
    shim_deaths: int = 1
    cuts: int = 0
    queue: int = 0
    refusals: bool = True


class Process(NamedTuple):
    """The state that the kernel keeps over all deaths.

    Attributes:
        phase: none, gate (forked, waits), exec (let through), run, failed (never ran), exited.
        written: characters that left the process.
        read: size of the buffer file; what is written and not read is in the pipe.
        freed: so much of the buffer file was given back.
        outcome_gone: what the start reported was read by a shim that is dead.
    """

    phase: str = "none"
    written: int = 0
    read: int = 0
    freed: int = 0
    outcome_gone: bool = False


class Entry(NamedTuple):
    """The shim's record of the process.

    Attributes:
        start: starting (at the gate, or between it and the exec), started, failed.
        owes_starting: the daemon that asked for it was not told yet that it is forked.
        end: offset behind the last character that it knows of.
        told: offset behind the last character that any daemon was told of; `sent`: that this one was told of.
        eof: 0: the pipe is open, 1: it has ended, 2: it is not there, and nobody knows why.
    """

    start: str = "starting"
    owes_starting: bool = False
    end: int = 0
    sent: int = 0
    told: int = 0
    eof: int = 0
    attached: bool = False
    outcome_told: bool = False
    end_told: bool = False
    exit_told: bool = False


class Shim(NamedTuple):
    """A living shim. `peer`: a daemon is connected; `owes_*`: what that one is still to be told."""

    entry: Entry | None = None
    peer: bool = False
    owes_inventory: bool = False
    owes_end: bool = False


class Daemon(NamedTuple):
    """A living daemon.

    Attributes:
        link: down, greeting (the inventory comes), up.
        is_open: it has taken up what was there, and serves clients.
        holds: it has duplicates of the process's descriptors.
        held_eof: as `Entry.eof`, of those.
        has_slot: the connected shim has the process.
        starting: a client waits for a start.
        running: the program is known to have been started.
        failed: the start has failed, and what the client will be: refused or wants (to try again).
        known: offset up to which an earlier daemon may have shown what was written.
        fed: offset behind the last character it took; `cut`: behind the last one that went into a line.
        lines: cut and not stored.
        ended, drained: heard that the process, and its output, have ended.
        losing: nobody has the process: it will be recorded as lost.
        unswept: what may be left of it was not swept yet, as far as is known.
    """

    link: str = "down"
    is_open: bool = False
    holds: bool = False
    held_eof: int = 0
    has_slot: bool = False
    attached: bool = False
    starting: bool = False
    running: bool = False
    failed: str = ""
    known: int = 0
    fed: int = 0
    cut: int = 0
    acked: int = 0
    lines: tuple[str, ...] = ()
    ended: bool = False
    drained: bool = False
    losing: bool = False
    unswept: bool = False


class Store(NamedTuple):
    """The committed state. `end`: "", real or lost; `gap`: number of the gap behind what was lost."""

    recorded: bool = False
    lines: tuple[str, ...] = ()
    position: int = 0
    end: str = ""
    complete: bool = False
    gap: int = 0


class State(NamedTuple):
    """The state of all parts.

    Attributes:
        client: wants (to start the process, under its key, again and again), asked, told (201) or refused (422).
        shown: what a follower was shown, the quickest there can be, in the order of the numbers.
        ran: a program was started for the key; `orphaned`: once nobody had the process, by two deaths.
        left: deaths of the daemon and of the shim, and cuts, that are still to come.
    """

    process: Process
    shim: Shim | None
    daemon: Daemon | None
    store: Store
    to_shim: tuple[Message, ...]
    to_daemon: tuple[Message, ...]
    client: str
    shown: tuple[str, ...]
    ran: bool
    orphaned: bool
    left: tuple[int, int, int]


class Model(NamedTuple):
    """A design, and the bounds of its exploration. In every design one key starts one program, over all deaths."""

    design: Design
    bounds: Bounds

    @property
    def first(self) -> State:
        """Nothing runs, and a client wants a process."""
        left = (self.bounds.daemon_deaths, self.bounds.shim_deaths, self.bounds.cuts)
        return State(Process(), None, None, Store(), (), (), "wants", (), ran=False, orphaned=False, left=left)


class BrokenPromise(Exception):
    """A step that must not be possible was possible. Carries the state behind it."""

    def __init__(self, promise: str, state: State) -> None:
        super().__init__(promise)
        self.promise = promise
        self.state = state


Step = tuple[str, State]


def is_held(state: State) -> bool:
    """Whether anybody who lives has the process's descriptors, or they are on their way to somebody who does."""
    on_way = any(message.kind in {"STARTING", "INVENTORY"} for message in state.to_daemon)
    if state.daemon and (state.daemon.holds or on_way):
        return True
    return bool(state.shim and (state.shim.entry or any(message.kind == "ADOPT" for message in state.to_shim)))


def close_gate(state: State) -> State:
    """Let a process end that waits at a gate which nobody can open any more."""
    if state.process.phase == "gate" and not is_held(state):
        return state._replace(process=Process())
    return state
