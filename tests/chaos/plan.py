"""The plan of a campaign, from its seed alone: daemons and how each dies, children and their followers."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from outlast import failpoints
from tests.chaos.scripts import KINDS

POINTS = tuple(
    point
    for point, what in failpoints.POINTS.items()
    if what.startswith("daemon:")
    and not point.startswith(("migration-", "handover-", "restart-", "replace", "stop-"))
    and point not in ("inside-compaction", "inside-compression")
    and "trim" not in point
)
"""Failpoints of the daemon. Migrations, managed processes, compaction, compression and trims have their own tests."""

HANDOVER_POINTS = tuple(point for point in failpoints.POINTS if point.startswith("handover-"))
"""Failpoints of a daemon whose shim has died."""

SHIM_POINTS = tuple(point for point in failpoints.POINTS if point.startswith("shim-"))
"""Failpoints of the shim."""

SEEN_POINTS = ("event-sent", "before-commit")
"""Failpoints of a daemon at which followers have seen lines that are not stored."""

ARMED_S = 1.5
LONG_AWAY_S = 2.5
"""Seconds without a daemon that are long enough to tell the time of a recovery from that of reading."""

_HIGHEST_COUNT = {
    "frame-read": 60,
    "event-sent": 60,
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
    "handover-begun": 1,
    "handover-step": 3,
    "shim-forked": 2,
    "shim-opened": 2,
    "shim-read": 60,
    "shim-reaped": 2,
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
    "terminal": 2,
    "restarted": 3,
}
_SHORT_LINES = ("trickler", "both", "brief", "suicide", "absent")
"""Kinds with few, short lines, which go well with callers that read all of it again and again."""
_RUN_SHARE = 0.4
_AWAITED_SHARE = 0.3
_OFFICIAL_SHARE = 0.2
_KEEPS_UP_S = 0.005
_FALLS_BEHIND_S = 0.02
_BUFFER_LIMITS = (1 << 20, 4 << 20, 64 << 20)

_T = TypeVar("_T")


class Form(StrEnum):
    """Kills in the life of a daemon, besides that of the daemon at its end."""

    DAEMON = "nothing"
    STOP = "nothing; the daemon gets SIGTERM"
    HELPER = "the shim's fork helper, while the daemon lives"
    UPGRADE = "nothing; the shim is upgraded"
    SHIM = "the shim, while the daemon lives"
    SHIM_POINT = "the shim, and the next one by itself"
    # After these, no living process holds the descriptors.
    SHIM_FIRST = "the shim, and at once the daemon"
    DAEMON_FIRST = "the daemon, and at once the shim"
    STARTING = "the shim, before the daemon has met it"
    HANDOVER = "the shim, and the daemon by itself while it hands over"
    START = "the daemon by itself while it starts a process, and at once the shim"
    SEEN = "the daemon by itself when followers have seen what is not stored, and at once the shim"


DOUBLE = (
    Form.SHIM_FIRST,
    Form.DAEMON_FIRST,
    Form.STARTING,
    *(Form.HANDOVER,) * len(HANDOVER_POINTS),
    *(Form.START,) * 2,
    *(Form.SEEN,) * 2,
)
# Of 20 kills or so: 15 of daemons, 4 of shims under a daemon that lives, 1 of both. None: one of the double forms.
_DECK = (
    *(Form.DAEMON,) * 11,
    Form.STOP,
    Form.STOP,
    Form.HELPER,
    Form.UPGRADE,
    Form.SHIM,
    Form.SHIM,
    Form.SHIM_POINT,
    None,
)
_SHIM_LIVES_S = (0.0, 0.3, 1.0)


@dataclass(frozen=True, slots=True)
class FollowerPlan:
    """A follower.

    Attributes:
        stream: `output`, `stdout` or `stderr`.
        join_s: seconds from the start to the first connection.
        pause_s: seconds between small reads. 0: reads take all that has come.
        leaves_after: number of events after which the follower reconnects, again and again. None: never.
        tail: number of last lines to begin with. None: from the first line.
    """

    stream: str
    join_s: float
    pause_s: float
    leaves_after: int | None
    tail: int | None


@dataclass(frozen=True, slots=True)
class Start:
    """A child, started `after_s` seconds after its daemon listens.

    Attributes:
        number: number of the child.
        kind: kind of its script.
        seed: seed of its script.
        after_s: seconds from when its daemon listens until its start is asked for.
        followers: followers of the child.
        is_run: whether it is started by `run`, whose stream is compared, too.
        is_awaited: whether a caller waits for its exit.
        has_official: whether the official Python client follows it.
    """

    number: int
    kind: str
    seed: int
    after_s: float
    followers: tuple[FollowerPlan, ...]
    is_run: bool
    is_awaited: bool
    has_official: bool

    @property
    def tag(self) -> str:
        """Value of the tag `start`, which names the child even when the answer to its start was lost."""
        return f"{self.number:05d}"


@dataclass(frozen=True, slots=True)
class Life:
    """One daemon.

    Attributes:
        form: kills besides that of the daemon.
        point: failpoint at which daemon or shim kills itself, at the `count`-th pass. None: no such kill.
        while_starting: `after_s` counts from the launch of the daemon instead of from when it listens.
        after_s: seconds until the daemon is killed from outside.
        away_s: seconds without a daemon afterwards.
        buffer_limit_bytes: buffer limit of the shim.
        starts: children to start.
        shim_after_s: seconds from when the daemon has connected to a shim until that is killed or upgraded.
        between_s: seconds between the deaths of the two.
    """

    form: Form
    point: str | None
    count: int
    while_starting: bool
    after_s: float
    away_s: float
    buffer_limit_bytes: int
    starts: tuple[Start, ...]
    shim_after_s: tuple[float, ...]
    between_s: float

    @property
    def kills(self) -> int:
        """Number of kills. The death of both counts once."""
        further = {Form.SHIM: 1 + len(self.shim_after_s), Form.SHIM_POINT: 3, Form.STARTING: 2, Form.HELPER: 2}
        return 0 if self.form is Form.STOP else further.get(self.form, 1)


class Planner:
    """A random generator of lives."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._number = 0
        self._points = self._all(POINTS)
        self._shim_points = self._all(SHIM_POINTS)
        self._handover_points = self._all(HANDOVER_POINTS)
        self._start_points = self._all(tuple(point for point in POINTS if point.startswith("start-")))
        self._seen_points = self._all(SEEN_POINTS)
        self._doubles = self._all(DOUBLE)
        self._forms = self._all(_DECK)
        self._quick = 0

    def lives(self, kills: int) -> Iterator[Life]:
        """Yield lives until they have at least `kills` kills."""
        done = 0
        while done < kills:
            life = self._life()
            done += life.kills
            yield life

    def armed(self, point: str) -> Life:
        """Return a further life for a point that was missed."""
        form = Form.SHIM_POINT if point in SHIM_POINTS else Form.HANDOVER if point in HANDOVER_POINTS else Form.DAEMON
        return self._draw(form, point=point, count=1, after_s=2 * ARMED_S)

    def _life(self) -> Life:
        rng = self._rng
        if self._quick:
            self._quick -= 1
            return self._draw(while_starting=True, after_s=rng.uniform(0.0, 0.5))
        form = next(self._forms) or next(self._doubles)
        if form is not Form.DAEMON:
            return self._other(form)
        chance = rng.random()
        if chance < 0.5:
            return self._armed(form, next(self._points))
        if chance < 0.58:
            self._quick = rng.randint(1, 4)
        return self._draw(after_s=self._soon_s())

    def _other(self, form: Form) -> Life:
        match form:
            case Form.SHIM_POINT:
                return self._armed(form, next(self._shim_points))
            case Form.HANDOVER:
                return self._armed(form, next(self._handover_points))
            case Form.START:
                return self._armed(form, next(self._start_points))
            case Form.SEEN:
                return self._armed(form, next(self._seen_points))
            case Form.SHIM_FIRST:
                return self._draw(form, after_s=0.0)
            case _:
                return self._draw(form, after_s=self._soon_s())

    def _armed(self, form: Form, point: str) -> Life:
        return self._draw(form, point=point, count=self._rng.randint(1, _HIGHEST_COUNT[point]), after_s=ARMED_S)

    def _soon_s(self) -> float:
        return self._rng.choice((0.05, 0.3, 0.8, 2.5)) * self._rng.random()

    def _all(self, what: Sequence[_T]) -> Iterator[_T]:
        """Yield all items in random order, again and again."""
        return itertools.chain.from_iterable(self._rng.sample(what, len(what)) for _ in itertools.count())

    def _draw(
        self,
        form: Form = Form.DAEMON,
        *,
        point: str | None = None,
        count: int = 0,
        while_starting: bool = False,
        after_s: float,
    ) -> Life:
        rng = self._rng
        away_s = rng.choices((0.0, 0.2 * rng.random(), LONG_AWAY_S), (70, 27, 3))[0]
        if form in {Form.SHIM_FIRST, Form.DAEMON_FIRST, Form.START, Form.SEEN}:
            away_s = 0.0
        starts = () if while_starting else tuple(self._start() for _ in range(rng.randint(1, 4)))
        if form is Form.SHIM_POINT:  # one that the armed shim starts and reaps itself
            starts += (self._start("brief"),)
        shim_kills = rng.choice((1, 1, 2)) if form is Form.SHIM else 1
        return Life(
            form=form,
            point=point,
            count=count,
            while_starting=while_starting,
            after_s=after_s,
            away_s=away_s,
            buffer_limit_bytes=rng.choice(_BUFFER_LIMITS),
            starts=starts,
            shim_after_s=tuple(rng.choice(_SHIM_LIVES_S) * rng.random() for _ in range(shim_kills)),
            between_s=rng.choice((0.0, 0.05, 0.6)) * rng.random(),
        )

    def _start(self, kind: str | None = None) -> Start:
        rng = self._rng
        self._number += 1
        kind = kind or rng.choices(KINDS, [_WEIGHTS[kind] for kind in KINDS])[0]
        followers = tuple(self._follower(first=number == 0) for number in range(rng.randint(1, 5)))
        if kind == "stream":
            followers += tuple(FollowerPlan("output", join_s, _KEEPS_UP_S, None, None) for join_s in (0.3, 1.0, 2.0))
        return Start(
            number=self._number,
            kind=kind,
            seed=rng.randrange(1 << 32),
            after_s=rng.choice((0.0, 0.2 * rng.random())),
            followers=followers,
            is_run=kind in _SHORT_LINES and rng.random() < _RUN_SHARE,
            is_awaited=rng.random() < _AWAITED_SHARE,
            has_official=kind in _SHORT_LINES and rng.random() < _OFFICIAL_SHARE,
        )

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
