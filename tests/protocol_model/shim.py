"""The shim: its reactions to messages, and its own steps."""

from collections.abc import Iterator

from .state import (
    FAILED,
    STARTED,
    WINDOW,
    BrokenPromise,
    Entry,
    Message,
    Model,
    Process,
    Shim,
    State,
    Step,
    close_gate,
)

RAN = {"run", "exited"}


def hears(model: Model, state: State, shim: Shim, message: Message) -> State:
    """Handle one message of the daemon.

    Raises:
        BrokenPromise: the message asks for a second process under one key.
    """
    kind, first, second, told_to = message
    if kind == "SPAWN":
        return _fork(model, state, shim)
    if kind == "ADOPT":  # whether it runs, its outcome tells: looked at also where the daemon knows it
        return _with(state, shim, Entry(end=first, eof=second, told=told_to))
    if kind == "KILL":
        return state._replace(process=_killed(state.process))
    if kind == "SWEEP":
        told = (*state.to_daemon, Message("SWEPT")) if shim.peer else state.to_daemon
        return state._replace(process=_killed(state.process), to_daemon=told)
    return state if shim.entry is None else _hears_of(state, shim, shim.entry, model, kind, first)


def _hears_of(state: State, shim: Shim, entry: Entry, model: Model, kind: str, position: int) -> State:
    process = state.process
    if kind == "FORGET":
        return close_gate(_with(state, shim, None))
    if kind == "ACK":
        return state._replace(process=process._replace(freed=max(process.freed, position)))
    return _attach(model, state, shim, entry, position)


def _with(state: State, shim: Shim, entry: Entry | None) -> State:
    return state._replace(shim=shim._replace(entry=entry))


def _killed(process: Process) -> Process:
    return process._replace(phase="exited") if process.phase in {"exec", "run"} else process


def _fork(model: Model, state: State, shim: Shim) -> State:
    if shim.entry or state.ran or state.process.phase in {"gate", "exec", "run"}:
        raise BrokenPromise("one key, one process: a second one is started", state)
    forked = Process("exec" if model.design.gate == "none" else "gate")
    return _with(state._replace(process=forked, orphaned=False), shim, Entry(owes_starting=shim.peer))


def _attach(model: Model, state: State, shim: Shim, entry: Entry, position: int) -> State:
    """Send (again) from there: what is stored whole is let go; a frame that is stored in part goes once more."""
    process = state.process
    again = process.freed < position < entry.end
    begin = position - 1 if again else max(position, process.freed)
    entry = entry._replace(
        attached=shim.peer,
        sent=begin,
        outcome_told=False,
        end_told=False,
        exit_told=entry.exit_told and not model.design.retells_exit,
    )
    if process.phase == "gate":
        process = process._replace(phase="exec")
    return _with(state._replace(process=process._replace(freed=begin)), shim, entry)


def steps(model: Model, state: State) -> Iterator[Step]:
    """Yield what the shim may do now."""
    shim = state.shim
    if shim is None:
        return
    can_send = shim.peer and len(state.to_daemon) <= max(model.bounds.queue - 1, 0)
    if shim.entry is not None:
        yield from _start(model, state, shim, shim.entry, can_send=can_send)
        if shim.entry.start == "started":
            yield from _read(model, state, shim, shim.entry)
        if can_send and shim.entry.attached:
            yield from _tell(model, state, shim, shim.entry)
    if can_send:
        yield from _tell_inventory(model, state, shim)


def _say(state: State, shim: Shim, entry: Entry | None, message: Message) -> State:
    return _with(state, shim, entry)._replace(to_daemon=(*state.to_daemon, message))


def _start(model: Model, state: State, shim: Shim, entry: Entry, *, can_send: bool) -> Iterator[Step]:
    process = state.process
    owes_starting = entry.owes_starting and shim.peer
    if owes_starting and can_send:
        yield "shim tells STARTING", _say(state, shim, entry._replace(owes_starting=False), Message("STARTING"))
    if model.design.gate == "told" and process.phase == "gate" and not owes_starting:
        yield "shim opens the gate", state._replace(process=process._replace(phase="exec"))
    if entry.start == "starting" and not owes_starting and process.phase in RAN | {"failed"}:
        if not model.design.outcome_stays and state.left[1]:
            dead = state._replace(
                shim=None,
                process=process._replace(outcome_gone=True),
                left=(state.left[0], state.left[1] - 1, state.left[2]),
            )
            yield "shim reads the outcome of the start and is KILLED", dead
        failed = process.phase == "failed" and not process.outcome_gone
        known = entry._replace(start="failed" if failed else "started")
        yield "shim learns the outcome", _with(state, shim, known)


def _read(model: Model, state: State, shim: Shim, entry: Entry) -> Iterator[Step]:
    process = state.process
    count = process.written - process.read
    if entry.eof == 0 and count:
        moved = state._replace(process=process._replace(read=process.written))
        yield "shim splices", _with(moved, shim, entry._replace(end=entry.end + count))
    if entry.eof == 0 and process.read == len(model.bounds.output):
        yield "shim reads the end of output", _with(state, shim, entry._replace(eof=1))


def _tell(model: Model, state: State, shim: Shim, entry: Entry) -> Iterator[Step]:
    process = state.process
    if entry.start in {"started", "failed"} and not entry.outcome_told:
        kind = "STARTED" if entry.start == "started" else "FAILED"
        is_kept = kind == "STARTED" or model.design.keeps_failed
        told = entry._replace(outcome_told=True) if is_kept else None
        yield f"shim tells {kind}", _say(state, shim, told, Message(kind))
    if entry.start != "started":
        return
    # What some daemon was told of goes again in frames as small as they can have been.
    upto = min(entry.sent + 1 if entry.sent < entry.told else entry.end, process.freed + WINDOW)
    if entry.sent < upto:
        message = Message("OUTPUT", entry.sent, upto)
        told = entry._replace(sent=upto, told=max(entry.told, upto))
        yield f"shim tells OUTPUT {entry.sent}..{upto}", _say(state, shim, told, message)
    if entry.eof == 1 and entry.sent == entry.end and not entry.end_told:
        yield "shim tells END", _say(state, shim, entry._replace(end_told=True), Message("END"))
    if process.phase == "exited" and not entry.exit_told:
        yield "shim tells EXITED", _say(state, shim, entry._replace(exit_told=True), Message("EXITED"))


def _tell_inventory(model: Model, state: State, shim: Shim) -> Iterator[Step]:
    entry = shim.entry
    if shim.owes_inventory:
        told = shim._replace(owes_inventory=False)
        if entry is None:
            yield "shim has forgotten it", state._replace(shim=told)
            return
        eof = entry.eof if model.design.ends_in_inventory or not entry.eof else 2
        message = Message("INVENTORY", eof, {"started": STARTED, "failed": FAILED}.get(entry.start, 0), entry.told)
        yield "shim tells INVENTORY", _say(state, told, entry, message)
    elif shim.owes_end:
        ended = shim._replace(owes_end=False)
        yield "shim tells INVENTORY_END", _say(state, ended, entry, Message("INVENTORY_END"))


def greeted(model: Model, shim: Shim) -> Shim:
    """Return the shim behind the greeting of a daemon, which replaces any other."""
    entry = shim.entry
    if entry is not None:
        entry = entry._replace(owes_starting=False, attached=False)
    known = entry is not None and (model.design.tells_starts or entry.start != "starting")
    return Shim(entry, peer=True, owes_inventory=known, owes_end=True)
