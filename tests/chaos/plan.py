"""What a campaign will do, from its seed alone: the daemons and how each dies, the children and who follows them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from app import crash
from tests.chaos.scripts import KINDS

POINTS = tuple(
    point
    for point, what in crash.POINTS.items()
    if what.startswith("daemon:") and not point.startswith(("migration-", "handover-"))
)
"""Where a daemon can be killed by itself. Migrations have a little campaign of their own."""

ARMED_S = 1.5
LONG_AWAY_S = 2.5
"""So long that the time of a recovery can't be taken for the time of reading."""

_HIGHEST_COUNT = {
    "frame-read": 60,
    "before-commit": 40,
    "inside-commit": 60,
    "after-commit": 40,
    "after-ack": 40,
    "start-asked": 2,
    "start-forked": 2,
    "start-recorded": 2,
    "end-seen": 3,
    "before-last-ack": 3,
    "after-last-ack": 3,
    "recovery-begun": 1,
    "recovery-step": 3,
    "recovery-done": 1,
}
_WEIGHTS = {
    "flood": 1,
    "trickler": 3,
    "chatter": 3,
    "stream": 2,
    "both": 3,
    "binary": 2,
    "prompts": 3,
    "brief": 8,
    "suicide": 3,
    "absent": 2,
    "long-lines": 1,
    "handover": 2,
    "echo": 2,
}
_KEEPS_UP_S = 0.005
_FALLS_BEHIND_S = 0.02
_ROOMS = (1 << 20, 4 << 20, 64 << 20)


@dataclass(frozen=True, slots=True)
class FollowerPlan:
    """A follower.

    Attributes:
        stream: `output`, `stdout` or `stderr`.
        join_s: how long after the start it begins.
        pause_s: it reads a little, waits so long, and reads on. 0: it reads what comes.
        leaves_after: it hangs up after so many events and comes back at once, again and again. None: it stays.
        tail: it begins so many lines back. None: at the beginning.
    """

    stream: str
    join_s: float
    pause_s: float
    leaves_after: int | None
    tail: int | None


@dataclass(frozen=True, slots=True)
class Start:
    """A child, started so long after its daemon listens."""

    number: int
    kind: str
    seed: int
    after_s: float
    followers: tuple[FollowerPlan, ...]

    @property
    def tag(self) -> str:
        """The value of the tag `start`: names the child also when the answer to its start was lost."""
        return f"{self.number:05d}"


@dataclass(frozen=True, slots=True)
class Life:
    """One daemon.

    Attributes:
        point: where it kills itself, at the `count`-th time. None: it is killed from outside only.
        while_starting: the kill from outside counts from its launch, and comes before it listens; else from then on.
        after_s: when it is killed from outside.
        away_s: how long nobody is there afterwards.
        room_bytes: what the shim may keep of one process meanwhile.
        starts: children to start.
    """

    point: str | None
    count: int
    while_starting: bool
    after_s: float
    away_s: float
    room_bytes: int
    starts: tuple[Start, ...]


class Planner:
    """Draws lives one after the other."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._number = 0
        self._points = self._all_points()
        self._quick = 0

    def lives(self, kills: int) -> Iterator[Life]:
        """Yield so many lives."""
        for _ in range(kills):
            yield self._life()

    def armed(self, point: str) -> Life:
        """A further life for a point that was missed."""
        return self._draw(point=point, count=1, while_starting=False, after_s=2 * ARMED_S)

    def _life(self) -> Life:
        rng = self._rng
        if self._quick:
            self._quick -= 1
            return self._draw(point=None, count=0, while_starting=True, after_s=rng.uniform(0.0, 0.5))
        chance = rng.random()
        if chance < 0.5:
            point = next(self._points)
            return self._draw(
                point=point, count=rng.randint(1, _HIGHEST_COUNT[point]), while_starting=False, after_s=ARMED_S
            )
        if chance < 0.58:
            self._quick = rng.randint(1, 4)
        return self._draw(
            point=None, count=0, while_starting=False, after_s=rng.choice((0.05, 0.3, 0.8, 2.5)) * rng.random()
        )

    def _all_points(self) -> Iterator[str]:
        while True:
            points = list(POINTS)
            self._rng.shuffle(points)
            yield from points

    def _draw(self, *, point: str | None, count: int, while_starting: bool, after_s: float) -> Life:
        rng = self._rng
        away_s = rng.choices((0.0, 0.2 * rng.random(), LONG_AWAY_S), (70, 27, 3))[0]
        starts = () if while_starting else tuple(self._start() for _ in range(rng.randint(1, 4)))
        return Life(point, count, while_starting, after_s, away_s, rng.choice(_ROOMS), starts)

    def _start(self) -> Start:
        rng = self._rng
        self._number += 1
        kind = rng.choices(KINDS, [_WEIGHTS[kind] for kind in KINDS])[0]
        followers = tuple(self._follower(first=number == 0) for number in range(rng.randint(1, 5)))
        if kind == "stream":
            followers += tuple(FollowerPlan("output", join_s, _KEEPS_UP_S, None, None) for join_s in (0.3, 1.0, 2.0))
        return Start(self._number, kind, rng.randrange(1 << 32), rng.choice((0.0, 0.2 * rng.random())), followers)

    def _follower(self, *, first: bool) -> FollowerPlan:
        rng = self._rng
        if first:
            return FollowerPlan("output", 0.0, pause_s=0.0, leaves_after=None, tail=None)
        return FollowerPlan(
            stream=rng.choice(("output", "output", "stdout", "stderr")),
            join_s=rng.choice((0.0, 1.0, 4.0)) * rng.random(),
            pause_s=rng.choice((0.0, 0.0, _KEEPS_UP_S, _FALLS_BEHIND_S)),
            leaves_after=rng.choice((None, None, rng.randint(1, 100))),
            tail=rng.choice((None, None, rng.randint(0, 50))),
        )
