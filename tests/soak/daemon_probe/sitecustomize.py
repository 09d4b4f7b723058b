"""Python imports this module at its start, because the soak puts its folder into PYTHONPATH. Only daemons answer."""  # noqa: INP001 - a folder of PYTHONPATH has no __init__

import importlib
import os
import sys

if "serve" in sys.orig_argv and "OUTLAST_SOAK_PROBE" in os.environ:
    importlib.import_module("counts").answer_on(f"\0{os.environ['OUTLAST_SOAK_PROBE']}.{os.getpid()}")
