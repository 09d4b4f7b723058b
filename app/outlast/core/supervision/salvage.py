"""The inventory of a shim that died before the daemon had recovered, which the next shim gets."""

from collections.abc import Iterable

from outlast.shimlink import ShimLink, ShimProcess


class Salvage:
    """The processes that were described by shims that have died since, while the daemon starts."""

    def __init__(self) -> None:
        self._processes: dict[str, ShimProcess] = {}

    def keep(self, found: Iterable[ShimProcess]) -> None:
        """Keep what a shim has described, but for what its receiver has taken, or an earlier shim has described."""
        for process in found:
            if not process.taken and self._processes.setdefault(process.record["id"], process) is not process:
                process.held.close()

    async def hand_over(self, link: ShimLink, found: Iterable[ShimProcess]) -> list[ShimProcess]:
        """Hand over what is kept to a shim, except what it has described itself (`found`).

        What is kept stays so until `clear`: this shim may die, too.
        """
        for process in found:
            if (known := self._processes.pop(process.record["id"], None)) is not None:
                known.held.close()
        return [
            ShimProcess(await link.adopt(process.record, process.held, None), process.record, process.held)
            for process in self._processes.values()
        ]

    def clear(self) -> None:
        """Forget what was kept: it is recovered."""
        self._processes.clear()
