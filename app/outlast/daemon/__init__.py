"""The composition root: lock, token, store, shim, sockets, and the order in which they come and go."""
