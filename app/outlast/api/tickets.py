"""Tickets with which pages attach to terminals: each opens one websocket, for the pages of one site.

A browser sets no headers of a websocket, and sends a cookie to the site of the daemon only. So a page is given a ticket
by who has the token. It is worth nothing to another page: a browser says by `Origin` which page opens the websocket.
"""

import secrets
import time
from dataclasses import dataclass

TICKET_S = 60
"""Time for which a ticket is valid."""

_MAX_TICKETS = 1000


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket.

    Attributes:
        path: path that it opens.
        origin: site whose pages may use it, as browsers name it; None: the daemon's own.
        ends_at: monotonic time at which it expires.
    """

    path: str
    origin: str | None
    ends_at: float


class Tickets:
    """The tickets of a daemon that nobody has used. They do not outlive it."""

    def __init__(self) -> None:
        self._tickets: dict[str, Ticket] = {}

    def new(self, path: str, origin: str | None) -> str:
        """Return a ticket for one request to `path`, by a page of `origin`. None: by a page of the daemon's own."""
        now = time.monotonic()
        self._tickets = {word: ticket for word, ticket in self._tickets.items() if ticket.ends_at > now}
        while len(self._tickets) >= _MAX_TICKETS:
            del self._tickets[next(iter(self._tickets))]
        word = secrets.token_urlsafe(32)
        self._tickets[word] = Ticket(path, origin, now + TICKET_S)
        return word

    def is_valid(self, word: str, path: str) -> bool:
        """Tell whether a ticket opens a path now. The look-up needs no constant time: nobody can guess 256 bits."""
        return _opens(self._tickets.get(word), path)

    def take(self, word: str, path: str) -> Ticket | None:
        """Return a ticket, which is used up from now on. None: it does not open the path."""
        ticket = self._tickets.pop(word, None)
        return ticket if _opens(ticket, path) else None


def _opens(ticket: Ticket | None, path: str) -> bool:
    return ticket is not None and ticket.path == path and ticket.ends_at > time.monotonic()
