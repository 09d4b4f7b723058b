"""Position in the output of a group of processes: how far each of them is read. As text, it is the id of an event."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

_MEMBER = "[0-9]{1,16}:[0-9]{1,16}"
_FORM = re.compile(f"(?:{_MEMBER},)*(?:{_MEMBER}|[0-9]{{1,16}})")


@dataclass(frozen=True, slots=True)
class GroupPosition:
    """Position in the output of a group.

    As text, such as `12:1204,13:88,15`: each member's handle with its sequence number, in order of handles. A bound
    that is above all of them stands alone at the end.

    Attributes:
        seqs: by handle of each member, the number of the last line, part or gap that was read.
        bound: highest handle that was looked at. A process up to it that is not a member has ended and was read, or was
            not wanted.
    """

    seqs: Mapping[int, int] = field(default_factory=dict)
    bound: int = 0

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the position that a text tells; None: it tells none."""
        if not text or not _FORM.fullmatch(text):
            return None
        seqs: dict[int, int] = {}
        bound = 0
        for entry in text.split(","):
            handle, colon, seq = entry.partition(":")
            if int(handle) <= bound and text != "0":
                return None  # each handle once, in order
            bound = int(handle)
            if colon:
                seqs[bound] = int(seq)
        return cls(seqs, bound)

    def __str__(self) -> str:
        entries = [f"{handle}:{seq}" for handle, seq in sorted(self.seqs.items())]
        if self.bound > max(self.seqs, default=0) or not entries:
            entries.append(str(self.bound))
        return ",".join(entries)

    def around(self, handle: int) -> tuple[str, str]:
        """Return the text before and behind the sequence number of a member."""
        text, entry = f",{self}", f",{handle}:"
        before, _, behind = text.partition(entry)
        _, comma, rest = behind.partition(",")
        return f"{before}{entry}"[1:], comma + rest

    def at(self, handle: int, seq: int) -> Self:
        """Return the position once a member is read up to `seq`, or has joined the group there."""
        return replace(self, seqs={**self.seqs, handle: seq}, bound=max(self.bound, handle))

    def without(self, handle: int) -> Self:
        """Return the position once a member has left the group."""
        return replace(self, seqs={other: seq for other, seq in self.seqs.items() if other != handle})
