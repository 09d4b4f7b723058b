"""Files of the machine, for clients of the API: read, written, listed and deleted as the daemon's user may.

Calls block, and belong on a thread.
"""
