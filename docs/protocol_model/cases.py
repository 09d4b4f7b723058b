"""What is explored: what keeps every promise, and what is needed for that."""

from typing import NamedTuple

from .state import Bounds, Design, Model

PROTOCOL = Design()
# An alternative: ATTACH, which follows the record, opens the gate. It promises more (`once_for_all`) and needs less.
RECORDED_FIRST = Design(gate="attach", inventory_waits=False, sweeps_strangers=False, waits_for_shim=False)

ONE_DAEMON = Bounds(shim_deaths=0)
ONE_SHIM = Bounds(daemon_deaths=0)
BOTH = Bounds()

SOUND = {
    "a death of each, with messages on their way": Model(PROTOCOL, Bounds(queue=1)),
    "three deaths of the daemon": Model(PROTOCOL, Bounds(daemon_deaths=3, shim_deaths=0)),
    "three deaths of the shim": Model(PROTOCOL, Bounds(daemon_deaths=0, shim_deaths=3)),
    "a broken connection and a death of the shim": Model(PROTOCOL, Bounds(daemon_deaths=0, cuts=1)),
    "a line that is longer than the window": Model(PROTOCOL, Bounds("xy\n", shim_deaths=0, refusals=False)),
    "recorded before it runs": Model(RECORDED_FIRST, BOTH, once_for_all=True),
}

DEEPER = {
    "two deaths of the daemon, one of the shim": Model(PROTOCOL, Bounds(daemon_deaths=2)),
    "one death of the daemon, two of the shim": Model(PROTOCOL, Bounds(shim_deaths=2)),
    "two deaths of each": Model(PROTOCOL, Bounds(daemon_deaths=2, shim_deaths=2)),
    "a death of each and a broken connection": Model(PROTOCOL, Bounds(cuts=1)),
    "a broken connection and a death of the shim, with messages on their way": Model(
        PROTOCOL, Bounds(daemon_deaths=0, cuts=1, queue=1)
    ),
    "a death of the daemon and a broken connection, with messages on their way": Model(
        PROTOCOL, Bounds(shim_deaths=0, cuts=1, queue=1)
    ),
    "a longer output": Model(PROTOCOL, Bounds("x\ny")),
    "recorded before it runs: two deaths of each": Model(
        RECORDED_FIRST, Bounds(daemon_deaths=2, shim_deaths=2), once_for_all=True
    ),
    "recorded before it runs: with a broken connection": Model(RECORDED_FIRST, Bounds(cuts=1), once_for_all=True),
    "recorded before it runs: with messages on their way": Model(RECORDED_FIRST, Bounds(queue=1), once_for_all=True),
}


class Broken(NamedTuple):
    """A mechanism that is taken away, and the promise that is broken then."""

    model: Model
    promise: str


BROKEN = {
    "acknowledging before the commit": Broken(
        Model(PROTOCOL._replace(acks_after_commit=False), ONE_DAEMON), "I1: output is missing between two frames"
    ),
    "a position outside the transaction": Broken(
        Model(PROTOCOL._replace(position_with_lines=False), ONE_DAEMON),
        "I1: what is stored is not what was written, in order, once",
    ),
    "lines shown before the commit": Broken(
        Model(PROTOCOL._replace(shows_after_commit=False), ONE_DAEMON),
        "I6: a follower was shown what the store does not have",
    ),
    "no part of a line before its end": Broken(
        Model(PROTOCOL._replace(parts_lines=False), Bounds("xy\n", daemon_deaths=0, shim_deaths=0)),
        "the process is still there for ever",
    ),
    "forgetting before all is stored": Broken(
        Model(PROTOCOL._replace(forgets_after_complete=False), ONE_DAEMON),
        "I1: the output is called complete and is not all there",
    ),
    "an exit told once": Broken(
        Model(PROTOCOL._replace(retells_exit=False), ONE_DAEMON), "the process is still there for ever"
    ),
    "an inventory that does not wait for starts": Broken(
        Model(PROTOCOL._replace(inventory_waits=False), ONE_DAEMON), "one key, one process: a second one is started"
    ),
    "no gate": Broken(Model(PROTOCOL._replace(gate="none"), ONE_SHIM), "one key, one process: a second one is started"),
    "no look at the size of the file": Broken(
        Model(PROTOCOL._replace(looks_at_size=False), ONE_SHIM),
        "I1: the output is called complete and is not all there",
    ),
    "an outcome of a start that is read once": Broken(
        Model(PROTOCOL._replace(outcome_stays=False), ONE_SHIM),
        "a client was told of a process that was never started",
    ),
    "ends of output left out of the inventory": Broken(
        Model(PROTOCOL._replace(ends_in_inventory=False), BOTH), "the process is still there for ever"
    ),
    "an inventory that breaks off and is thrown away": Broken(
        Model(PROTOCOL._replace(keeps_what_was_told=False), BOTH), "one key, one process: a second one is started"
    ),
    "only what is recorded is swept": Broken(
        Model(PROTOCOL._replace(sweeps_strangers=False), BOTH), "a program runs and nobody has it"
    ),
    "a newer connection that hides what an older one said": Broken(
        Model(PROTOCOL._replace(reads_older_first=False), Bounds(queue=1)),
        "I1: the output is called complete and is not all there",
    ),
    "a start called off as soon as the connection breaks": Broken(
        Model(PROTOCOL._replace(waits_for_shim=False), Bounds(shim_deaths=0, cuts=1)),
        "a program runs and nobody has it",
    ),
    "a start that both forget before it is recorded": Broken(
        Model(PROTOCOL, BOTH, once_for_all=True), "one key, one process: a second one is started"
    ),
}
