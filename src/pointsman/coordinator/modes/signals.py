"""The signals of one coordinator: how long new work would wait, and how well it does. Sampled on a timer.

Nothing is counted for them on the way of a step: they are read off what is there already.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from pointsman.coordinator.driving.crew import Crew
from pointsman.coordinator.gates.agent import Gate
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.observe.stats import Stats

SIGNALS = ("wait", "lag", "store", "errors", "memory")
RATE_S = 3.0
"""Over so long the rate is measured at which an agent's queue moves."""
SMOOTHING = 0.3
"""What the newest sample of the loop's lag weighs: of ten samples a second, the last half second counts."""
EVENTS_A_STEP = 2
TURNS = 5
"""Turns of the event loop that a step of a run takes beside its append: the agent's, and the driver's."""
STEPS_MAX = 100
"""A run of more steps is reckoned with so many: it takes long in any case."""
RUNS_MIN = 20
"""Of fewer runs that ended within `RATE_S`, the mean number of steps says nothing."""
REST_GROWS = 1.000_05
"""In a tenth of a second: what a step takes at rest is the least that was ever seen, and is forgotten this slowly:
twice as much after 23 minutes."""
WAITERS_ASKED = 200
"""The first so many of a queue are asked for the workflow of their run."""


class Room(Protocol):
    """What signals ask of the roster."""

    def room(self) -> int: ...
    def taken(self) -> float:
        """Share of the room for runs that is taken, in number or in bytes."""
        ...


class Measurements:
    """Call `sample` about every 100 ms, and `look` when the mode is decided.

    Attributes:
        waits: seconds that a call of a run of this workflow, made now, would wait for its agent; only where it would.
        machinery: seconds that a run of as many steps as others have waits for this process and the store, beyond what
            its steps take at rest; or how long there has been no room for another run.
    """

    def __init__(self, settings: CoordinatorSettings, stats: Stats, roster: Room) -> None:
        self.waits: dict[str, float] = {}
        self.machinery = 0.0
        self._settings = settings
        self._stats = stats
        self._roster = roster
        self._lag = 0.0
        self._lags: list[float] = []
        self._moved: dict[str, deque[tuple[float, int]]] = {}
        self._ended: deque[tuple[float, int, int]] = deque()
        self._appends = (0, 0.0)
        self._store = 0.0
        self._no_room_since: float | None = None
        self._steps = 1.0
        self._at_rest = math.inf
        self._worked: deque[tuple[float, int, int]] = deque()

    def sample(self, crew: Crew, now: float, lag_s: float) -> None:
        """`now`: monotonic seconds; `lag_s`: how late the event loop just was."""
        self._stats.loop_lag_s = lag_s
        self._lags.append(lag_s)
        self._lag += SMOOTHING * (lag_s - self._lag)
        self._store = max(self._append_latency(), crew.recorder.oldest_s)
        self._measure_queues(crew, now)
        if self._roster.room() > 0:
            self._no_room_since = None
        elif self._no_room_since is None:
            self._no_room_since = now
        no_room = 0.0 if self._no_room_since is None else now - self._no_room_since
        self.machinery = max(no_room, self._measure_steps(now))

    def look(self, now: float) -> dict[str, float]:
        """The signals as of now, by name."""
        lags, self._lags = self._lags, []
        return {
            "wait": max(self.waits.values(), default=0.0),
            "lag": sum(lags) / len(lags) if lags else self._lag,
            "store": self._store,
            "errors": self._error_share(now),
            "memory": self._roster.taken(),
        }

    def _append_latency(self) -> float:
        """The mean of the appends that were answered since the last sample; of those before when there were none, for
        as long as any is on its way, and 0 at rest."""
        latency = self._stats.append_latency
        count, total = sum(latency.counts), latency.total
        before_count, before_total = self._appends
        self._appends = count, total
        return (total - before_total) / (count - before_count) if count > before_count else 0.0

    def _measure_steps(self, now: float) -> float:
        """How much longer a run takes for its steps than at rest."""
        step_s = TURNS * self._lag + self._store
        if self._store:
            self._at_rest = min(self._at_rest * REST_GROWS, step_s)
        self._worked.append((now, self._stats.events, sum(self._stats.runs_ended.values())))
        while now - self._worked[0][0] > RATE_S:
            self._worked.popleft()
        events, ended = (self._worked[-1][n] - self._worked[0][n] for n in (1, 2))
        if ended >= RUNS_MIN:
            self._steps = min(max(events / ended / EVENTS_A_STEP, 1.0), STEPS_MAX)
        return self._steps * max(step_s - self._at_rest, 0.0) if self._at_rest < math.inf else 0.0

    def _measure_queues(self, crew: Crew, now: float) -> None:
        self.waits = {}
        queues = crew.gates.queues()
        for name in self._moved.keys() - queues.keys():
            del self._moved[name]
        for name, gate in queues.items():
            wait = self._wait_at(name, gate, now)
            for workflow in {waiter.workflow for waiter in gate.queue.first(WAITERS_ASKED)}:
                self.waits[workflow] = max(self.waits.get(workflow, 0.0), wait)

    def _wait_at(self, name: str, gate: Gate, now: float) -> float:
        """Queue over rate; before anybody was let in, what the first one has waited is all that is known."""
        moved = self._moved.setdefault(name, deque())
        moved.append((now, gate.let_in))
        while now - moved[0][0] > RATE_S:
            moved.popleft()
        seconds, count = now - moved[0][0], gate.let_in - moved[0][1]
        return len(gate.queue) * seconds / count if count else gate.oldest_s()

    def _error_share(self, now: float) -> float:
        """Attempts that failed within the window; 0 while there are too few to say anything."""
        ended = self._stats.calls_ended
        total = sum(ended.values())
        self._ended.append((now, total, total - ended.get("completed", 0)))
        while now - self._ended[0][0] > self._settings.errors_window_s:
            self._ended.popleft()
        count, failed = (self._ended[-1][n] - self._ended[0][n] for n in (1, 2))
        return failed / count if count >= self._settings.errors_min else 0.0
