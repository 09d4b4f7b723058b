"""The shim: the small, long-lived parent of every process, and the only reader of their pipes.

The shim starts, reaps and signals processes, and keeps every byte of output until the daemon has acknowledged it. It
knows nothing of HTTP, SQL or users' input. As `outlast init` it also keeps the daemon running. It uses the standard
library only, one thread, one epoll loop. docs/protocol.md describes what it says on its socket.
"""
