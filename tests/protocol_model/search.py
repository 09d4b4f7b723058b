"""The search: breadth first through all states."""

import gc
from typing import NamedTuple

from .promises import broken, unfinished
from .state import BrokenPromise, Model, State
from .world import faults, start_of_daemon, steps


class Result(NamedTuple):
    """Result of a search.

    Attributes:
        states: number of visited states.
        promise: the broken promise; None if all hold in every state.
        trace: the shortest way to the broken promise, step by step.
    """

    states: int
    promise: str | None = None
    trace: tuple[str, ...] = ()


def search(model: Model) -> Result:
    """Visit every state, or end at the first broken promise.

    If there is none, it is also shown that from every state each sequence of steps without further deaths comes to
    an end, and to a good one: those steps lead in no circle, and where there are none, nothing is left to do.
    """
    gc.disable()  # there is much to remember and no cycle in it: looking for some takes half of the time
    try:
        return _Search(model).run()
    finally:
        gc.enable()


class _Search:
    """States are numbered as they are found; `before[n]` are those from which a step leads to n."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._numbers: dict[State, int] = {}
        self._states: list[State] = []
        self._came_from: list[tuple[int, str]] = []
        self._before: list[list[int]] = []
        self._steps_left: list[int] = []

    def run(self) -> Result:
        self._number(self._model.first, -1, "")
        number = 0
        while number < len(self._states):
            state = self._states[number]
            try:
                promise = self._explore(number, state)
            except BrokenPromise as exc:
                promise = exc.promise
            if promise is not None:
                return self._result(promise, number)
            number += 1
        return self._result(*self._circle())

    def _explore(self, number: int, state: State) -> str | None:
        if (promise := broken(self._model, state)) is not None:
            return promise
        count = 0
        for label, after in (*start_of_daemon(state), *steps(self._model, state)):
            self._before[self._number(after, number, label)].append(number)
            count += 1
        self._steps_left.append(count)
        for label, after in faults(self._model, state):
            self._number(after, number, label)
        return None if count else unfinished(state)

    def _number(self, state: State, came_from: int, label: str) -> int:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
            self._came_from.append((came_from, label))
            self._before.append([])
        return number

    def _circle(self) -> tuple[str | None, int]:
        """Remove states from the end: a state that cannot be removed leads to a circle."""
        left = self._steps_left
        ended = [number for number, count in enumerate(left) if count == 0]
        while ended:
            for number in self._before[ended.pop()]:
                left[number] -= 1
                if left[number] == 0:
                    ended.append(number)
        return next((("it can go round in circles for ever", n) for n, count in enumerate(left) if count), (None, 0))

    def _result(self, promise: str | None, number: int) -> Result:
        trace: list[str] = []
        while promise is not None and number > 0:
            number, label = self._came_from[number]
            trace.append(label)
        return Result(len(self._states), promise, tuple(reversed(trace)))
