"""The crew: the services that every driver of a coordinator works with, under one incarnation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pointsman.agents.directory import AgentDirectory
from pointsman.coordinator.budgets.service import Purses
from pointsman.coordinator.driving.dispatcher import Dispatcher
from pointsman.coordinator.driving.effects import Effects
from pointsman.coordinator.driving.recorder import Recorder
from pointsman.coordinator.driving.timers import Timers
from pointsman.coordinator.driving.tracebacks import Tracebacks
from pointsman.coordinator.gates.service import Gates
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.observe.stats import Stats
from pointsman.ports.ids import Ids
from pointsman.ports.liveness import Lease
from pointsman.ports.store import Store


@dataclass
class Crew:
    """The services of one incarnation. `is_draining`: nothing more is dispatched."""

    settings: CoordinatorSettings
    store: Store
    directory: AgentDirectory
    ids: Ids
    recorder: Recorder
    dispatcher: Dispatcher
    effects: Effects
    gates: Gates
    purses: Purses
    timers: Timers
    stats: Stats
    tracebacks: Tracebacks
    lease: Lease
    on_moved: Callable[[str], None]
    """An append of this run moved."""
    on_due: Callable[[str], None]
    """Another run has something to do: tell whoever may drive it."""
    on_notice: Callable[[], None] | None = None
    """Notices of human tasks were appended; None: there is no webhook to tell."""
    is_draining: bool = False
