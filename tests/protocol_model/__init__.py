"""A model of the protocol between daemon and shim, small enough to visit every state.

`docs/protocol.md` says what the messages mean. Here the same is said as a program: one process that writes a few
characters and ends, one shim, one daemon, one store, one client that asks for the process under an idempotency key
until it has an answer, and a follower that sees each line as soon as it may. From every state every step is tried,
and every death: `search` visits all states there are, in order of their distance, and returns the shortest way to a
broken promise if there is one.

- `state.py`: all parts of a state, and the mechanisms that can be left out (`Design`).
- `shim.py`, `daemon.py`: the two programs: what each does when it hears a message, and of its own accord.
- `world.py`: the program that is run, the socket, deaths.
- `promises.py`: promises that hold in every state, and in those where nothing more happens.
- `cases.py`: cases that are explored: designs that keep the promises, and what breaks without each mechanism.

`python -m tests.protocol_model` explores it all and prints the traces.

What is left out, and why that hides nothing:

- A step is atomic: what a program does between two effects that others can see. Splicing and noting the frame are one
  step, because what is noted dies with the shim and the size of the file does not; for the same reason reaping and
  telling are one, as the kernel keeps the status for every holder of a pidfd.
- With `queue=0` a message is handled as it is sent. One that is on its way is otherwise like one that was not sent yet,
  if it gets there, and if it does not, its sender or receiver is dead, and with it the memory that could
  tell the difference. That argument has an exception (what a dead daemon had said and a newer connection replaces), so
  the same is explored with messages on their way (`queue=1`), to a smaller depth.
- The buffer file is its size: there is one reader, and bytes go into it in the order of the pipe.
- The quickest follower stands for all: another one sees a beginning of what it has seen.
- Standard input, signals and several streams: nothing of theirs is kept over a death but what one stream shows.
- The store commits: what becomes of a store that refuses, fails or stalls, other tests say.
- The outcome of a start is its report file: every holder may read it, again and again.
- An upgrade of the shim changes nothing that is modelled but the connection, which `cuts` break.
"""

from .search import Result, search
from .state import Bounds, Design, Model

__all__ = ["Bounds", "Design", "Model", "Result", "search"]
