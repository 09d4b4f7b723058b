"""The composition root: lock, token, store, shim, sockets, and the order in which they come and go."""

from app.daemon.down import end_everything
from app.daemon.serve import serve

__all__ = ["end_everything", "serve"]
