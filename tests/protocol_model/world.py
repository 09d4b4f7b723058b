"""All steps from a state: those of the program, the shim, the daemon, the sockets, and deaths."""

from collections.abc import Iterator

from . import daemon as daemon_side
from . import shim as shim_side
from .state import PIPE_HOLDS, Daemon, Model, Shim, State, Step, close_gate, is_held


def steps(model: Model, state: State) -> Iterator[Step]:
    """Yield every step except deaths, as its label and the state behind it."""
    for label, after in _own_steps(model, state):
        yield label, after if model.bounds.queue else _deliver_all(model, after)


def _own_steps(model: Model, state: State) -> Iterator[Step]:
    yield from _program(model, state)
    yield from shim_side.steps(model, state)
    yield from daemon_side.steps(model, state)
    if model.bounds.queue:
        if state.to_shim and state.shim:
            yield f"shim hears {state.to_shim[0][0]}", _shim_hears(model, state, state.shim)
        if state.to_daemon and state.daemon:
            yield f"daemon hears {state.to_daemon[0][0]}", _daemon_hears(model, state, state.daemon)


def _deliver_all(model: Model, state: State) -> State:
    while True:
        if state.to_shim and state.shim:
            state = _shim_hears(model, state, state.shim)
        elif state.to_daemon and state.daemon:
            state = _daemon_hears(model, state, state.daemon)
        else:
            return state


def _shim_hears(model: Model, state: State, shim: Shim) -> State:
    return shim_side.hears(model, state._replace(to_shim=state.to_shim[1:]), shim, state.to_shim[0])


def _daemon_hears(model: Model, state: State, daemon: Daemon) -> State:
    return daemon_side.hears(model, state._replace(to_daemon=state.to_daemon[1:]), daemon, state.to_daemon[0])


def _program(model: Model, state: State) -> Iterator[Step]:
    process = state.process
    if process.phase == "exec":
        yield "program starts", state._replace(process=process._replace(phase="run"), ran=True)
        if model.bounds.refusals:
            yield "program cannot be started", state._replace(process=process._replace(phase="failed"))
    if process.phase == "gate" and model.bounds.refusals:
        yield "its user or folder is refused", state._replace(process=process._replace(phase="failed"))
    if process.phase == "run":
        yield "program exits", state._replace(process=process._replace(phase="exited"))
    # What it started may write on when it has exited itself.
    has_room = process.written - process.read < PIPE_HOLDS and process.written < len(model.bounds.output)
    if process.phase in shim_side.RAN and has_room and is_held(state):
        yield "program writes", state._replace(process=process._replace(written=process.written + 1))


def faults(model: Model, state: State) -> Iterator[Step]:
    """Yield what may go wrong at any moment, as long as there is some left of it."""
    daemon_deaths, shim_deaths, cuts = state.left
    if state.daemon and daemon_deaths:
        dead = _disconnected(state)._replace(daemon=None, left=(daemon_deaths - 1, shim_deaths, cuts))
        dead = close_gate(dead._replace(client=_without_answer(state.client)))
        yield "the daemon is KILLED", _mark_orphan(model, dead)
    if state.shim and shim_deaths:
        dead = state._replace(shim=None, to_shim=(), left=(daemon_deaths, shim_deaths - 1, cuts))
        yield "the shim is KILLED", _mark_orphan(model, close_gate(dead))
    if state.daemon and state.daemon.link != "down" and state.shim and cuts:
        cut = _disconnected(state)._replace(left=(daemon_deaths, shim_deaths, cuts - 1))
        yield "the connection BREAKS", _mark_orphan(model, daemon_side.lose_link(model, cut, state.daemon))
        if state.to_shim:  # as when the shim leaves it, to become its next version
            unread = cut._replace(to_shim=())
            yield (
                "the connection BREAKS, unread",
                _mark_orphan(model, daemon_side.lose_link(model, unread, state.daemon)),
            )

    if state.client == "asked" and cuts:
        yield (
            "the client's connection BREAKS",
            state._replace(client="wants", left=(daemon_deaths, shim_deaths, cuts - 1)),
        )


def start_of_daemon(state: State) -> Iterator[Step]:
    """Yield the start of a daemon where none runs."""
    if state.daemon is None:
        yield "a daemon starts", state._replace(daemon=Daemon())


def _disconnected(state: State) -> State:
    """Return the state after a disconnection: the shim still reads what the daemon sent, and its own unread is gone."""
    shim = state.shim
    if shim is not None:
        shim = shim._replace(peer=False, owes_inventory=False, owes_end=False)
    return state._replace(shim=shim, to_daemon=())


def _without_answer(client: str) -> str:
    return "wants" if client == "asked" else client


def _mark_orphan(model: Model, state: State) -> State:
    """Nobody has the process any more. That takes deaths on both sides; anything less stays a broken promise."""
    bounds, left = model.bounds, state.left
    both = left[1] < bounds.shim_deaths and (left[0] < bounds.daemon_deaths or left[2] < bounds.cuts)
    there = state.store.recorded or state.process.phase in {"exec", "run", "exited", "failed"}
    if both and there and not state.store.complete and not is_held(state):
        return state._replace(orphaned=True)
    return state
