"""The cases: designs that keep every promise, and designs without one mechanism, which break one."""

from typing import NamedTuple

from .state import Bounds, Design, Model

PROTOCOL = Design()

ONE_DAEMON = Bounds(shim_deaths=0)
ONE_SHIM = Bounds(daemon_deaths=0)
BOTH = Bounds()

SOUND = {
    "a death of each": Model(PROTOCOL, BOTH),
    "a death of the daemon, with messages on their way": Model(PROTOCOL, Bounds(shim_deaths=0, queue=1)),
    "three deaths of the daemon": Model(PROTOCOL, Bounds(daemon_deaths=3, shim_deaths=0)),
    "three deaths of the shim": Model(PROTOCOL, Bounds(daemon_deaths=0, shim_deaths=3)),
    "a broken connection and a death of the shim": Model(PROTOCOL, Bounds(daemon_deaths=0, cuts=1)),
    "a line that is longer than the window": Model(PROTOCOL, Bounds("xy\n", shim_deaths=0, refusals=False)),
}

DEEPER = {
    "a death of each, with messages on their way": Model(PROTOCOL, Bounds(queue=1)),
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
    "one death of the daemon, two of the shim, with messages on their way": Model(
        PROTOCOL, Bounds(shim_deaths=2, queue=1)
    ),
    "a longer output": Model(PROTOCOL, Bounds("x\ny")),
}


class Broken(NamedTuple):
    """A design without one mechanism, and the promise that it breaks."""

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
    "a part of a line shown before it is stored": Broken(
        Model(PROTOCOL._replace(shows_parts_stored=False), ONE_DAEMON),
        "I6: a number means another line than the one that was shown",
    ),
    "parts cut where an earlier daemon may have shown lines": Broken(
        Model(PROTOCOL._replace(parts_only_new=False), ONE_DAEMON),
        "I6: a number means another line than the one that was shown",
    ),
    "a gap with the next number": Broken(
        Model(PROTOCOL._replace(skips_numbers=False), BOTH), "I6: a number that was shown means a gap"
    ),
    "no part of a line before its end": Broken(
        Model(PROTOCOL._replace(parts_lines=False), Bounds("xy\n", daemon_deaths=0, shim_deaths=0)),
        "the process is still there for ever",
    ),
    "forgetting before all is stored": Broken(
        Model(PROTOCOL._replace(forgets_after_complete=False), ONE_DAEMON),
        "I6: what was shown is neither held nor stored",
    ),
    "an exit told once": Broken(
        Model(PROTOCOL._replace(retells_exit=False), ONE_DAEMON), "the process is still there for ever"
    ),
    "an inventory that leaves out starts": Broken(
        Model(PROTOCOL._replace(tells_starts=False), ONE_DAEMON), "one key, one process: a second one is started"
    ),
    "a failed start that the shim forgets of its own accord": Broken(
        Model(PROTOCOL._replace(keeps_failed=False), ONE_DAEMON),
        "I3: an end is lost though somebody had the process",
    ),
    "a failed start forgotten before its record is withdrawn": Broken(
        Model(PROTOCOL._replace(withdraws_first=False), ONE_DAEMON),
        "I3: an end is lost though somebody had the process",
    ),
    "no gate": Broken(Model(PROTOCOL._replace(gate="none"), ONE_SHIM), "a program runs and nobody has it"),
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
        Model(PROTOCOL._replace(keeps_what_was_told=False), BOTH), "I3: an end is lost though somebody had the process"
    ),
    "a newer connection that hides what an older one said": Broken(
        Model(PROTOCOL._replace(reads_older_first=False), Bounds(queue=1)),
        "I3: an end is lost though somebody had the process",
    ),
    "a gate that opens when the daemon was told": Broken(
        Model(PROTOCOL._replace(gate="told"), BOTH), "a program runs and nobody has it"
    ),
}
