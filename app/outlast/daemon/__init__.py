"""The composition root: lock, token, store, shim and sockets, and the order in which they are opened and closed."""
