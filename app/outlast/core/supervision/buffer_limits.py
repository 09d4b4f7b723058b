"""How much the shim may keep."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferLimits:
    """What the shim may keep while nobody takes it, in bytes: of one process, and of all in memory and on disk."""

    process_bytes: int
    memory_bytes: int
    spool_bytes: int

    @property
    def least_bytes(self) -> int:
        """What may be on its way to the store, if nothing goes to disk, before some process waits."""
        return min(self.process_bytes, self.memory_bytes)

    def as_settings(self) -> dict[str, int]:
        """Return it as the shim is told of it in the greeting."""
        return {"room_bytes": self.process_bytes, "memory_bytes": self.memory_bytes, "spool_bytes": self.spool_bytes}
