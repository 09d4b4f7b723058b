"""Python imports this at its start, because the soak puts this folder into PYTHONPATH. Only a daemon is looked into."""  # noqa: INP001 - no package

import importlib
import os
import sys

if "serve" in sys.orig_argv and "OUTLAST_SOAK_PROBE" in os.environ:
    importlib.import_module("counts").answer_on(f"\0{os.environ['OUTLAST_SOAK_PROBE']}.{os.getpid()}")
