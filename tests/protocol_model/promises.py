"""Promises that hold in every state, and at the end."""

from .state import Model, State, is_held


def broken(model: Model, state: State) -> str | None:
    """Return the promise that this state breaks, if any."""
    return next(
        (promise for promise, is_kept in (*_of_output(model, state), *_of_start(model, state)) if not is_kept), None
    )


def _of_output(model: Model, state: State) -> tuple[tuple[str, bool], ...]:
    store, output = state.store, model.bounds.output
    stored = "".join(store.lines)
    is_whole = stored == output or not store.complete
    return (
        ("I1: what is stored is not what was written, in order, once", output.startswith(stored)),
        ("I3: an end is lost though somebody had the process", store.end != "lost" or state.orphaned),
        ("I3: an end is stored that has not happened", store.end != "real" or state.process.phase == "exited"),
        ("I1: the output is called complete and is not all there", is_whole or state.orphaned),
        ("I6: a number means another line than the one that was shown", all(map(str.__eq__, state.shown, store.lines))),
        ("I6: a number that was shown means a gap", not store.gap or store.gap > len(state.shown)),
        ("I6: what was shown is neither held nor stored", _is_kept(state)),
    )


def _is_kept(state: State) -> bool:
    """Whether the lines that were shown are stored, or will be as long as not both die."""
    is_stored = len(state.shown) <= len(state.store.lines)
    return is_stored or state.orphaned or (is_held(state) and not state.store.complete)


def _of_start(model: Model, state: State) -> tuple[tuple[str, bool], ...]:
    client, is_recorded, ran = state.client, state.store.recorded, state.ran
    may_run = is_recorded or model.design.gate != "attach"
    return (
        ("I6: a client was told of a process that the store does not have", client != "told" or is_recorded),
        ("a client was told of a process that was never started", client != "told" or ran or state.orphaned),
        ("a start was refused and left a trace", client != "refused" or not (ran or is_recorded)),
        ("a program runs and nobody has it", not _is_stranger(state)),
        ("a program was started before it was recorded", may_run or not ran),
    )


def _is_stranger(state: State) -> bool:
    """A daemon has taken everything up, and something runs that is not among it."""
    daemon = state.daemon
    if daemon is None or state.shim is None or state.to_shim or daemon.link != "up" or not daemon.is_open:
        return False
    return state.process.phase in {"exec", "run"} and not is_held(state)


def unfinished(state: State) -> str | None:
    """Return what is wrong with a state in which nothing more happens, if anything."""
    if state.client not in {"told", "refused"}:
        return "a client waits for ever"
    if state.process.phase in {"gate", "exec", "run"} or (state.shim and state.shim.entry):
        return "the process is still there for ever"
    if state.store.recorded and not state.store.complete:
        return "the output never becomes complete"
    if state.ran and not state.store.recorded and not state.orphaned:
        return "a program ran and is recorded nowhere"
    return None
