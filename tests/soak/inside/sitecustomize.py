"""Python imports this at its start, because the soak puts this folder into PYTHONPATH. Only a daemon is looked into."""  # noqa: INP001 - no package

import os
import sys

if "serve" in sys.orig_argv and "OUTLAST_SOAK_INSIDE" in os.environ:
    import counts

    counts.answer_on(f"\0{os.environ['OUTLAST_SOAK_INSIDE']}.{os.getpid()}")
