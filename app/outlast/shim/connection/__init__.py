"""The socket to the daemon, and what comes over it."""
