"""The keeper of the mode: samples the signals, follows the system stream `mode`, and appends changes to it.

Nobody owns the stream: whoever measures a reason first appends, and the loser of a race reads again. Implements
`ports.modes.Modes`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pointsman.agents.directory import AgentDirectory
from pointsman.coordinator.driving.crew import Crew
from pointsman.coordinator.duties import keep
from pointsman.coordinator.modes.shedding import Shedding
from pointsman.coordinator.modes.signals import SIGNALS, Measurements, Room
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.errors import InvalidValue, StoreUnavailable, WrongExpectedSequence
from pointsman.kernel.events import Event
from pointsman.kernel.policy import modes
from pointsman.kernel.policy.modes import MODES, ModePolicy, ModeState, Threshold
from pointsman.observe.stats import Stats
from pointsman.ports.modes import AUTO, ModeChange, ModeView, SignalView
from pointsman.ports.store import Store
from pointsman.ports.system_log import new_events

STREAM = "mode"
SECTION = "signals"
SAMPLE_S = 0.1
TRIES_MAX = 100
SHOWN = 10
"""The latest so many changes are shown."""

logger = logging.getLogger("pointsman.mode")
_state = msgspec.json.Decoder(ModeState)


def policy_of(settings: CoordinatorSettings) -> ModePolicy:
    """The configured thresholds."""
    return ModePolicy(
        {
            "wait": Threshold(settings.degraded_wait_s, settings.emergency_wait_s),
            "lag": Threshold(settings.degraded_lag_s, settings.emergency_lag_s),
            "store": Threshold(settings.degraded_store_s, settings.emergency_store_s),
            "errors": Threshold(settings.degraded_errors, settings.emergency_errors),
            "memory": Threshold(settings.degraded_memory, settings.emergency_memory),
        },
        leave=settings.mode_leave,
        stay_ms=round(settings.mode_stay_s * 1000),
    )


class ModeKeeper:
    """A service: `start`, `stop`; the verbs at any time.

    Args:
        directory: its `mode` is kept up to date.
        crew: who acts now; None: nobody does, and nothing is measured.

    Attributes:
        state: the mode as it was last read.
    """

    def __init__(
        self, settings: CoordinatorSettings, store: Store, directory: AgentDirectory, stats: Stats, roster: Room,
        crew: Callable[[], Crew | None],
    ) -> None:  # fmt: skip
        self.state = ModeState()
        self.shedding = Shedding(settings.shed_wait_s, store.log, stats)
        self._settings = settings
        self._policy = policy_of(settings)
        self._log = store.system
        self._clock = store.clock
        self._directory = directory
        self._stats = stats
        self._crew = crew
        self._measured = Measurements(settings, stats, roster)
        self._looks: deque[dict[str, float]] = deque(maxlen=2)
        self._sequence = 0
        self._tasks: list[asyncio.Task[None]] = []

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start, and return once the mode is known. Raises StoreUnavailable."""
        await self.refresh()
        self._tasks = [
            asyncio.create_task(keep(duty, SAMPLE_S), name=name)
            for name, duty in (("signals", self._sample), ("mode", self._follow))
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sample(self) -> None:
        clock = self._clock
        while True:
            before = clock.monotonic()
            await asyncio.sleep(SAMPLE_S)
            now = clock.monotonic()
            crew = self._crew()
            if crew is not None:
                self._measured.sample(crew, now, max(now - before - SAMPLE_S, 0.0))
                self.shedding.adjust(self._measured, now - before)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._settings.mode_poll_ms / 1000)
            try:
                await self.refresh()
                await self._decide()
            except WrongExpectedSequence:
                continue  # somebody else was first: the next look is at what came of it
            except StoreUnavailable:
                self._looks.clear()  # what was measured of a store that is away is no load
                raise

    async def refresh(self) -> None:
        """Read the mode now. Raises StoreUnavailable."""
        head = await self._log.head(STREAM)
        if head is not None and head.sequence > self._sequence:
            try:
                self._learn(_state.decode(head.state), head.sequence)
            except msgspec.MsgspecError as error:
                logger.warning("the mode was written by another release, and stays %s here: %s", self.state.mode, error)

    def _learn(self, state: ModeState, sequence: int) -> None:
        if state.mode != self.state.mode:
            level = logging.INFO if state.mode == modes.FULL else logging.WARNING
            logger.log(level, "the mode is %s: %s (%s)", state.mode, state.cause, state.by)
        self.state, self._sequence = state, sequence
        self._directory.mode = state.mode

    # -- deciding -----------------------------------------------------------------------------------------------------

    async def _decide(self) -> None:
        crew = self._crew()
        if crew is None:
            return
        look = self._stats.signals = self._measured.look(self._clock.monotonic())
        self._looks.append(look)
        others = [signals_of(said.get(SECTION)) for said in crew.gates.heard.values()]
        now = self._clock.now()
        events = modes.change(self.state, tuple(self._looks), others, self._policy, now, self._settings.name)
        if events:
            await self._append(self.state, self._sequence, events, now)
            self._stats.mode_changes += 1

    def signals(self) -> Mapping[str, float]:
        """What this coordinator measured last, for the board."""
        return self._stats.signals

    async def _append(self, state: ModeState, sequence: int, events: Sequence[Event], now: int) -> None:
        """Raises WrongExpectedSequence, StoreUnavailable."""
        for event in events:
            state = modes.evolve(state, event, now)
        head = await self._log.append(STREAM, sequence, new_events(events, now), msgspec.json.encode(state))
        self._learn(state, head.sequence)

    # -- the verbs ----------------------------------------------------------------------------------------------------

    async def get(self) -> ModeView:
        """See `ports.modes.Modes`."""
        await self.refresh()
        crew, state = self._crew(), self.state
        looks = [self._stats.signals]
        looks += [signals_of(said.get(SECTION)) for said in crew.gates.heard.values()] if crew is not None else []
        signals = [
            SignalView(name, max(look.get(name, 0.0) for look in looks), threshold.degraded, threshold.emergency)
            for name, threshold in self._policy.thresholds.items()
        ]
        rows = await self._log.read(STREAM, after=max(self._sequence - SHOWN, 0)) if self._sequence else []
        changes = [ModeChange(row.sequence, row.at, row.type, msgspec.Raw(row.body)) for row in rows]
        return ModeView(
            mode=state.mode, measured=state.measured, pinned=state.pinned or None, since=state.since or None,
            cause=state.cause, by=state.by, signals=signals, changes=changes,
        )  # fmt: skip

    async def set(self, mode: str, *, by: str, reason: str = "") -> ModeView:
        """See `ports.modes.Modes`."""
        if not by:
            raise InvalidValue("by is empty: say who sets the mode")
        for left in reversed(range(TRIES_MAX)):
            await self.refresh()
            state = self.state
            events = modes.unpin(state, by, reason) if mode == AUTO else modes.pin(state, mode, by, reason)
            try:
                if events:
                    await self._append(state, self._sequence, events, self._clock.now())
                break
            except WrongExpectedSequence:
                if left == 0:
                    raise
        return await self.get()

    @property
    def level(self) -> int:
        """0: full, 1: degraded, 2: emergency."""
        return MODES.index(self.state.mode)


def signals_of(said: Any) -> dict[str, float]:
    """The signals of another coordinator, as far as this release knows them."""
    if not isinstance(said, dict):
        return {}
    return {name: value for name in SIGNALS if isinstance(value := said.get(name), int | float)}
