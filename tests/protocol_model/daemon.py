"""The daemon: its reactions to messages, and its own steps."""

import itertools
from collections.abc import Iterator

from . import shim as shim_side
from .state import FAILED, STARTED, WINDOW, BrokenPromise, Daemon, Message, Model, Shim, State, Step, close_gate


def _with(state: State, daemon: Daemon) -> State:
    return state._replace(daemon=daemon)


def _ask(state: State, daemon: Daemon, message: Message) -> State:
    """Send: into the void if the shim is dead and the daemon does not know."""
    to_shim = (*state.to_shim, message) if state.shim else ()
    return state._replace(daemon=daemon, to_shim=to_shim)


def hears(model: Model, state: State, daemon: Daemon, message: Message) -> State:
    """Handle one message of the shim.

    Raises:
        BrokenPromise: the shim cannot have been meant to send this.
    """
    kind, first, second, told = message
    if kind == "STARTING":
        known = daemon._replace(holds=True, held_eof=0, has_slot=True)
    elif kind == "STARTED":
        known = daemon._replace(running=True)
    elif kind == "FAILED":
        known = daemon._replace(failed="refused", has_slot=model.design.keeps_failed)
    elif kind == "INVENTORY":
        if daemon.is_open and not (daemon.holds or state.store.recorded):  # nobody waits for it any more
            return _ask(_ask(state, daemon, Message("KILL")), daemon, Message("FORGET"))
        known = daemon._replace(
            holds=True,
            held_eof=first,
            has_slot=True,
            running=daemon.running or second == STARTED,
            failed="refused" if second == FAILED else daemon.failed,
            known=max(daemon.known, told),
        )
    elif kind == "INVENTORY_END":
        return _reconcile(state, daemon)
    elif kind == "SWEPT":
        known = daemon._replace(unswept=False)
    elif kind == "OUTPUT":
        known = _feed(model, state, daemon, first, second)
    elif kind == "END":
        rest = model.bounds.output[daemon.cut : daemon.fed]
        lines = (*daemon.lines, rest) if rest and not daemon.drained else daemon.lines
        known = daemon._replace(drained=True, held_eof=1, lines=lines, cut=daemon.fed)
    else:
        known = daemon._replace(ended=True)  # EXITED
    return _show(model, _with(state, known))


def _show(model: Model, state: State) -> State:
    """Show followers what is stored, and the lines behind it that every later daemon would cut and number alike."""
    if state.daemon is None:
        return state
    lines = state.daemon.lines
    if model.design.shows_parts_stored:
        lines = tuple(itertools.takewhile(lambda line: line.endswith("\n"), lines))
    seen = state.shown
    return state._replace(shown=seen + (state.store.lines + lines)[len(seen) :])


def _feed(model: Model, state: State, daemon: Daemon, offset: int, end: int) -> Daemon:
    if offset > daemon.fed:
        raise BrokenPromise("I1: output is missing between two frames", state)
    if end <= daemon.fed:
        return daemon
    if daemon.fed < state.process.freed:
        raise BrokenPromise("I1: output was given back before it was taken", state)
    text = model.bounds.output[daemon.cut : end]
    whole = text[: text.rfind("\n") + 1]
    lines = tuple(whole.splitlines(keepends=True))
    return daemon._replace(fed=end, cut=daemon.cut + len(whole), lines=daemon.lines + lines)


def _reconcile(state: State, daemon: Daemon) -> State:
    """The inventory is complete: bring it together with the store."""
    store = state.store
    daemon = daemon._replace(link="up")
    if not daemon.is_open:
        is_lost = store.recorded and not (store.complete or daemon.holds)
        running = daemon.running or bool(store.end)
        daemon = daemon._replace(is_open=True, running=running, losing=is_lost, unswept=is_lost)
    return _ask(state, daemon, Message("SWEEP")) if daemon.unswept else _with(state, daemon)


def steps(model: Model, state: State) -> Iterator[Step]:
    """Yield what the daemon may do now."""
    daemon = state.daemon
    if daemon is None:
        return
    if daemon.link == "down":
        yield from _connect(model, state, daemon)
    elif state.shim is None and not state.to_daemon:
        yield "daemon sees that the shim is gone", lose_link(model, state, daemon)
    if not daemon.is_open:
        return
    can_ask = daemon.link == "up" and state.shim is not None and len(state.to_shim) <= max(model.bounds.queue - 1, 0)
    yield from _serve(state, daemon, can_ask=can_ask)
    yield from _commit(model, state, daemon)
    if daemon.failed:
        yield from _give_up(model, state, daemon, can_ask=can_ask)
    elif can_ask:
        yield from _command(model, state, daemon)


def lose_link(model: Model, state: State, daemon: Daemon) -> State:
    """The connection is gone; descriptors and what was heard are not."""
    daemon = daemon._replace(link="down", has_slot=False, attached=False)
    if not daemon.is_open and not model.design.keeps_what_was_told:
        daemon = Daemon()
    if daemon.starting and not (daemon.holds or state.store.recorded):
        daemon = daemon._replace(failed="wants")
    return close_gate(_with(state, daemon)._replace(to_daemon=()))


def _connect(model: Model, state: State, daemon: Daemon) -> Iterator[Step]:
    """Find the shim, or start one. An earlier connection still carries what a dead daemon had said."""
    label = "daemon connects" if state.shim else "daemon starts a shim and connects"
    while state.shim and state.to_shim and model.design.reads_older_first:
        state = shim_side.hears(model, state._replace(to_shim=state.to_shim[1:]), state.shim, state.to_shim[0])
    shim = shim_side.greeted(model, state.shim or Shim())
    yield label, state._replace(daemon=daemon._replace(link="greeting"), shim=shim, to_shim=(), to_daemon=())


def _serve(state: State, daemon: Daemon, *, can_ask: bool) -> Iterator[Step]:
    store = state.store
    if state.client == "wants" and daemon.link == "up" and not daemon.failed:
        yield "client asks for the process", state._replace(client="asked")
    if state.client != "asked" or daemon.failed:
        return
    if store.recorded and (daemon.running or store.end) and not daemon.losing:
        yield "daemon answers 201", _with(state, daemon._replace(starting=False))._replace(client="told")
    elif can_ask and not (store.recorded or daemon.holds or daemon.starting):
        yield "daemon asks SPAWN", _ask(state, daemon._replace(starting=True), Message("SPAWN"))


def _commit(model: Model, state: State, daemon: Daemon) -> Iterator[Step]:
    store, design = state.store, model.design
    if daemon.holds and not daemon.failed and not store.recorded:
        yield "daemon records the process", state._replace(store=store._replace(recorded=True))
    if daemon.losing:
        skipped = WINDOW if design.skips_numbers else 0
        lost = store._replace(end=store.end or "lost", complete=True, gap=len(store.lines) + skipped + 1)
        yield "daemon records it as lost", state._replace(store=lost, daemon=daemon._replace(losing=False))
    if daemon.lines:
        lines = store.lines + daemon.lines
        position = daemon.cut if design.position_with_lines else store.position
        yield (
            f"daemon commits {list(daemon.lines)}",
            _show(
                model,
                state._replace(store=store._replace(lines=lines, position=position), daemon=daemon._replace(lines=())),
            ),
        )
    elif store.position < daemon.cut:
        yield "daemon commits the position", state._replace(store=store._replace(position=daemon.cut))
    elif daemon.cut < daemon.fed and design.parts_lines and (daemon.fed >= daemon.known or not design.parts_only_new):
        part = model.bounds.output[daemon.cut : daemon.fed]
        parted = _with(state, daemon._replace(lines=(part,), cut=daemon.fed))
        yield f"daemon parts a line: {part!r}", _show(model, parted)
    if daemon.ended and not store.end:
        yield "daemon commits the end", state._replace(store=store._replace(end="real"))
    all_stored = not daemon.lines and store.position == daemon.fed
    if store.end and daemon.drained and all_stored and not store.complete:
        yield "daemon commits that the output is complete", state._replace(store=store._replace(complete=True))


def _command(model: Model, state: State, daemon: Daemon) -> Iterator[Step]:
    store, design = state.store, model.design
    if daemon.holds and not daemon.has_slot:
        yield from _take_over(model, state, daemon)
    if daemon.has_slot and store.recorded and not daemon.attached and not store.complete:
        position = store.position
        attached = daemon._replace(
            attached=True, acked=position, fed=max(daemon.fed, position), cut=max(daemon.cut, position)
        )
        yield f"daemon attaches at {position}", _ask(state, attached, Message("ATTACH", position))
    upto = store.position if design.acks_after_commit else daemon.fed
    if daemon.attached and daemon.acked < upto:
        yield f"daemon acknowledges {upto}", _ask(state, daemon._replace(acked=upto), Message("ACK", upto))
    is_done = store.complete or (not design.forgets_after_complete and daemon.ended and daemon.drained)
    if daemon.has_slot and is_done:
        yield "daemon lets the shim forget", _ask(state, _without_process(daemon), Message("FORGET"))


def _without_process(daemon: Daemon) -> Daemon:
    return daemon._replace(holds=False, held_eof=0, has_slot=False, attached=False)


def _take_over(model: Model, state: State, daemon: Daemon) -> Iterator[Step]:
    """The shim that had it is dead: a new one gets what this daemon holds, its gate included."""
    if state.store.complete:
        yield "daemon lets go", _with(state, _without_process(daemon))
    else:
        known = state.process.read if model.design.looks_at_size else daemon.fed
        adopted = daemon._replace(has_slot=True)
        yield (
            "daemon hands the process over",
            _ask(state, adopted, Message("ADOPT", known, daemon.held_eof, max(daemon.known, daemon.fed))),
        )


def _give_up(model: Model, state: State, daemon: Daemon, *, can_ask: bool) -> Iterator[Step]:
    """A start has failed: no trace of it is kept, then the client is told."""
    if state.store.recorded and (model.design.withdraws_first or not daemon.has_slot):
        yield "daemon withdraws the record", state._replace(store=state.store._replace(recorded=False))
        return
    if state.store.recorded:
        if can_ask:
            yield "daemon lets the shim forget", _ask(state, _without_process(daemon), Message("FORGET"))
        return
    client = daemon.failed if state.client == "asked" else state.client
    after = _without_process(daemon)._replace(failed="", starting=False, running=False)
    if not daemon.has_slot:
        yield f"daemon gives the start up: the client {client}", _with(state, after)._replace(client=client)
    elif can_ask:
        forgotten = _ask(state, after, Message("FORGET"))
        yield f"daemon gives the start up: the client {client}", forgotten._replace(client=client)
