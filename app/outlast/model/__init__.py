"""Processes, runs, output, events and errors as plain data. Pure: no I/O, no third-party imports."""
