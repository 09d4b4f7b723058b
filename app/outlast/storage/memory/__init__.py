"""Storage in memory: it ends with its process. For tests, and for trying things out."""

from outlast.storage.memory.storage import MemoryStorage

__all__ = ["MemoryStorage"]
