"""Python programs that tests run as processes."""

COUNTER = "import time, itertools\nfor i in itertools.count(1):\n    print(i, flush=True)\n    time.sleep(0.002)"
"""Prints 1, 2, 3 ... without end, a number each 2 ms."""
