"""The socket to the daemon, and the commands that come over it."""
