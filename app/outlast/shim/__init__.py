"""The shim: the small, long-lived parent of every process, and the only reader of their pipes.

It starts, reaps and signals, keeps every byte until the daemon has acknowledged it as stored, and knows nothing of
HTTP, SQL or users' input. As `outlast init` it keeps the daemon alive, too. Standard library only, one thread, one
epoll loop. See `docs/protocol.md` for what it says on its socket.
"""
