"""Our standard input, passed on to that of a process."""

import contextlib
import os
import threading

from outlast.cli.messages import STDIN
from outlast.client import NotRunning, Outlast, OutlastError, StdinNotWritable

_READ_BYTES = 65536


class Input:
    """Our standard input, which goes to a process from `start` on.

    Attributes:
        problem: why a part of it did not arrive; empty: all did, or the process has stopped reading.
    """

    def __init__(self, ol: Outlast) -> None:
        self.problem = ""
        self._ol = ol

    def start(self, process_id: str) -> None:
        """Pass input on from now on, while the caller does something else."""
        # The thread may wait for a terminal for ever, and must not hold back the end of the command.
        threading.Thread(target=self._pass_on, args=(process_id,), daemon=True).start()

    def _pass_on(self, process_id: str) -> None:
        sent = 0
        try:
            process = self._ol.process(process_id)
            while data := os.read(STDIN, _READ_BYTES):
                process.send(data)
                sent += len(data)
            process.close_stdin()
        except (NotRunning, StdinNotWritable):
            pass  # nobody reads it any more
        except (OutlastError, OSError) as exc:
            self.problem = f"only the first {sent} bytes of input are known to have arrived: {exc}"
            with contextlib.suppress(OutlastError):  # it would wait for the rest for ever
                self._ol.process(process_id).kill()
