"""What the checkers read: the database's final tables, and what clients and agents noted.

Plain data, so that a bad log can be made by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pointsman.agents.directory import AgentDirectory
from pointsman.kernel import events as ev
from pointsman.kernel.upcast import read_event
from pointsman.ports.event_log import Head
from pointsman.ports.mailbox import Mail
from pointsman.testing.sim.databases import Erased
from pointsman.testing.sim.journal import Effect, Invocation, Shift
from pointsman.testing.sim.webhook import Told


@dataclass(frozen=True)
class Ack:
    """What a client was told.

    Attributes:
        what: start, signal, cancel, result, read, redrive, repair; or what an operator did, of no run.
        answer: accepted, ended, duplicate, refused, or what the run came to.
        position: how many events the database held when the client heard it.
        seen: sequence and type of each event read.
        asked: how many events it held when the client asked for the last time.
    """

    what: str
    run: str
    answer: str
    position: int
    key: str = ""
    seen: tuple[tuple[int, str], ...] = ()
    asked: int = 0


@dataclass
class Evidence:
    """What the checkers of a schedule read.

    Attributes:
        feed: (run, sequence, virtual seconds) of every event, in the order of commits.
        unfinished: operations of clients that were never answered although everything was well again.
    """

    streams: Mapping[str, Sequence[ev.Recorded]]
    heads: Mapping[str, Head]
    mails: Mapping[str, Sequence[Mail]]
    feed: Sequence[tuple[str, int, int]]
    acks: Sequence[Ack] = ()
    invocations: Sequence[Invocation] = ()
    effects: Sequence[Effect] = ()
    directory: AgentDirectory | None = None
    """The app's agents and workflows, to replay with."""
    releases_before: Sequence[AgentDirectory] = ()
    """The same, of the code that was deployed before."""
    early_ms: int = 0
    """How far ahead of the database's clock the coordinators' estimates of it were at most."""
    unfinished: Sequence[str] = ()
    errors: Sequence[str] = ()
    budgets: Mapping[str, Sequence[ev.Recorded]] = field(default_factory=dict)
    """The streams of shared budgets, whole."""
    damaged: Mapping[str, int] = field(default_factory=dict)
    """Runs with an event that was altered in the database, and its sequence."""
    erased: Sequence[Erased] = ()
    """What retention deleted; its streams, heads and mails are with the others."""
    aged_at: int = 0
    """What had ended by then was past retention; 0: nothing ever is."""
    takeovers_max: int = 1
    """With so many owners that died, one after the other and without progress, a run is held back."""
    laid_out: Sequence[Invocation] = ()
    """What coordinators laid out for workers."""
    shifts: Sequence[Shift] = ()
    """What workers made of it."""
    left_over: Sequence[str] = ()
    """What is laid out for a worker, or a worker is at, although every run has ended."""
    told: Sequence[Told] | None = None
    """What the receiver of a webhook was told; None: there is no webhook."""
    is_over: bool = True
    """The schedule came to its end, with everything healed; False: it ran out of time."""
    waited_for_budgets: bool = True
    """It went on until every tranche had come back."""
    _read: dict[str, list[ev.Event]] = field(default_factory=dict)
    _places: dict[tuple[str, int], int] = field(default_factory=dict)

    def events(self, run: str) -> list[ev.Event]:
        if run not in self._read:
            self._read[run] = [read_event(row) for row in self.streams.get(run, ())]
        return self._read[run]

    def place(self, run: str, sequence: int) -> int:
        """Where an event stands in the feed, from 0; -1 if it does not."""
        if not self._places:
            self._places.update({(run_, n): place for place, (run_, n, _) in enumerate(self.feed)})
        return self._places.get((run, sequence), -1)
