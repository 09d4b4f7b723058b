"""The sockets on which the daemon serves the HTTP API: the shim keeps duplicates, so that they outlive the daemon.

The shim never accepts a connection. While no daemon runs, connections wait in the kernel, and no other program can
listen at the address and be handed the token.
"""

import os
from collections.abc import Collection, Sequence
from typing import Any

from outlast.wire.api_socket import ApiSocket


class HeldApiSockets:
    """The sockets of the daemon that greeted last."""

    def __init__(self, sockets: Sequence[ApiSocket] = ()) -> None:
        self._sockets = list(sockets)

    def replace(self, sockets: Sequence[ApiSocket]) -> None:
        """Keep these sockets, and no others."""
        for old in self._sockets:
            if not any(old.file == new.file for new in sockets):
                old.remove_file()
            old.close()
        self._sockets = list(sockets)

    def keep_only(self, addresses: Collection[str]) -> list[ApiSocket]:
        """Close the sockets of other addresses, and return those that are left. They stay the shim's.

        A socket that was asked for with port 0 is also that of the port which it got.
        """
        kept = []
        for one in self._sockets:
            address = one.address if one.address in addresses else one.bound_address()
            if address in addresses:
                kept.append(one._replace(address=address))
            else:
                one.remove_file()
                one.close()
        self._sockets = kept
        return list(kept)

    def dump_state(self) -> tuple[list[dict[str, Any]], list[int]]:
        """Return what the next version of this program needs (see `resume`), and descriptors to keep open."""
        return [{**one.to_json(), "fd": one.fd} for one in self._sockets], [one.fd for one in self._sockets]

    @classmethod
    def resume(cls, state: Sequence[dict[str, Any]]) -> "HeldApiSockets":
        """Keep the sockets of an earlier program in this process."""
        for fields in state:
            os.set_inheritable(fields["fd"], False)
        return cls([ApiSocket.from_json(fields, fields["fd"]) for fields in state])
