"""Ends of processes that a caller asks for: a managed process is stopped in order first."""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

from outlast.core.managed.controller import ManagedController
from outlast.core.references import References
from outlast.core.views import ProcessView
from outlast.model.errors import NameInUse, NotFound, NotManaged, after_effects
from outlast.model.process import Process

End = Callable[[Process, float, int | None], Awaitable[str | None]]
"""Function that ends a process within seconds, after a grace in milliseconds, and returns what is left, in words."""


class Endings:
    """Ends of processes, of managed ones too."""

    def __init__(
        self, references: References, managed: ManagedController, view: Callable[[Process], ProcessView]
    ) -> None:
        self._references = references
        self._managed = managed
        self._view = view

    async def end(
        self, ref: str, end: End, wait_s: float, grace_ms: int | None, *, is_last: bool = False
    ) -> ProcessView | None:
        """End a process by `end`. See `ProcessManager.kill` for what is returned.

        `is_last`: `end` deletes the process, so that no other call may start it again meanwhile.

        Raises:
            NotFound: there is no such process.
        """
        process = await self._references.find_to_end(ref)
        managed = self._managed.registry.get(process.spec.id)
        if managed is None and is_last:
            with contextlib.suppress(NotManaged, NameInUse):  # then no other call can start it either
                managed = self._managed.find_or_register(process)

        async def end_now() -> tuple[ProcessView, str | None]:
            with after_effects("the process was stopped"):
                found = await self._references.find_to_end(process.spec.id)
                return self._view(found), await end(found, wait_s, None)

        if managed is None:
            view, left = self._view(process), await end(process, wait_s, grace_ms)
        else:
            done = await self._managed.stop(managed, grace_ms, end_now if is_last else None)
            view, left = done or await end_now()
        if left is None:
            return None
        with contextlib.suppress(NotFound), after_effects("the process was killed"):
            view = self._view(await self._references.find(process.spec.id))
        return replace(view, warning=left)
