"""The draft of a run's next append: what is decided and not in the log yet."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from zlib import crc32

import msgspec

from pointsman.coordinator.driving import mail as mails
from pointsman.coordinator.driving.children import first_append
from pointsman.coordinator.driving.crew import Crew
from pointsman.coordinator.driving.task_rows import OpenTasks
from pointsman.kernel import events as ev
from pointsman.kernel.checksum import pack_place, salt
from pointsman.kernel.execution import Execution
from pointsman.kernel.requests import Produced
from pointsman.ports.event_log import Append, Head, NewEvent, NewRun
from pointsman.ports.reservations import ReservationRow
from pointsman.ports.states import StateRow

NEARLY_FULL = 0.8
"""Of the events that a generation may have; from there on it is warned of."""
SAYS_MORE = frozenset(
    {
        ev.HumanTaskOpened, ev.HumanTaskRequested, ev.CallReserved, ev.RunRestarted, ev.ChildStarted, ev.StateSet,
    }
)  # fmt: skip
"""Events of which an append says more than the log: rows, a new generation, the first events of children, the
typed state."""
KINDS = {cls: (name, cls.VERSION, salt(name, cls.VERSION)) for name, cls in ev.EVENT_TYPES.items()}
"""Of each event: its name, its version, and what these put into its checksum."""

logger = logging.getLogger("pointsman.driver")


class Draft:
    """Collects the events of a run's next append.

    Attributes:
        entries: what to append, in order. Whoever adds an event of `SAYS_MORE` also sets `says_more`.
        durable: the sequence that the log is known to have reached.
        says_more: the next append writes more than the log; while human tasks are open, each may.
        create: the run is not in the store yet, and the next append creates it.
        noted: events appended here that made no progress.
    """

    __slots__ = (
        "_crew", "_execution", "_head", "_nonce", "_stats", "_tasks", "_warn_at", "create", "durable", "entries",
        "noted", "says_more",
    )  # fmt: skip

    def __init__(self, crew: Crew, execution: Execution, head: Head, create: NewRun | None) -> None:
        self.entries: list[Produced] = []
        self.durable = head.sequence
        self.create = create
        self.says_more = bool(execution.state.tasks)
        self.noted = 0
        self._crew = crew
        self._nonce = crew.ids.nonce
        self._stats = crew.stats
        self._execution = execution
        self._head = head
        self._tasks = OpenTasks(execution.state, has_webhook=crew.on_notice is not None)
        self._warn_at = self._limit_near()

    @property
    def head(self) -> Head:
        """The run's head as of its last durable append."""
        return msgspec.structs.replace(self._head, sequence=self.durable, updated_at=self._execution.state.last_at)

    def appends(
        self, status: str, owner: int | None, *, closes: bool = False, wake_at: int | None = None,
        last: Produced | None = None,
    ) -> list[Append]:  # fmt: skip
        """The run's append, which ends with `last`, and the appends that create the children which it starts."""
        run, durable, epoch = self._execution.state, self.durable, self._head.epoch
        events = self.entries if last is None else self._with(last)
        append = Append(
            run.run, epoch, durable, self._nonce(), chained(events, self._execution.checksum, durable, epoch), status,
            owner, run.folded, closes=closes, wake_at=wake_at, create=self.create,
            letter=None if last is None else mails.letter_to_parent(run, last.event),
        )  # fmt: skip
        if not self.says_more:
            return [append]
        append.tasks, append.notices = self._tasks.rows(events, durable)
        append.reservations = reservation_rows(events, durable)
        append.state = state_row(events, durable)
        append.generations, append.base = restarts(events, durable)
        # Each new owner sets aside anew what the attempt under way may cost: a run that ends them would never be found.
        append.is_progress = not events or any(type(p.event) is not ev.CallReserved for p in events)
        children = [p for p in self.entries if type(p.event) is ev.ChildStarted]
        return [append, *(first_append(self._crew, run, p.event, p.data, p.at) for p in children)]  # type: ignore[arg-type]

    def moved(self, append: Append, last: Produced | None) -> list[Produced]:
        """Note that the append is in the log. Returns what was decided, without `last`; the draft is then empty."""
        events, before = append.events, self.durable
        if events:
            self._execution.checksum = events[-1].checksum
            self.durable = durable = before + len(events)
            self._stats.events += len(events)
            if durable >= self._warn_at:
                self._warn_of_limit()
        if self.says_more:
            produced = self._with(last)
            self.noted += 0 if append.is_progress else len(events)
            self._tasks.moved(produced)
            self._note_generation(restarts(produced, before))
            self.says_more = bool(self._tasks.by_call)
            if append.notices and self._crew.on_notice is not None:
                self._crew.on_notice()
        self.create = None
        decided, self.entries = self.entries, []
        return decided

    def ended(self, status: str, at: int) -> None:
        """Note that the run's last append is in the log."""
        self._head = msgspec.structs.replace(self._head, status=status, owner=None, ended_at=at, wake_at=None)

    def _with(self, last: Produced | None) -> list[Produced]:
        return self.entries if last is None else [*self.entries, last]

    # -- generations ----------------------------------------------------------------------------------------------

    def _note_generation(self, begun: tuple[int, int]) -> None:
        count, base = begun
        if count:
            self._head = msgspec.structs.replace(self._head, base=base, generation=self._head.generation + count)
            self._warn_at = self._limit_near()

    def _limit_near(self) -> int:
        return self._head.base + int(self._crew.settings.events_max * NEARLY_FULL)

    def _warn_of_limit(self) -> None:
        """Warn once a generation, well before the limit is reached."""
        self._warn_at = sys.maxsize
        self._crew.stats.generations_nearly_full += 1
        logger.warning(
            "run %s: generation %d has %d events, and the limit is %d: end its loop in run.restart(...)",
            self._head.id, self._head.generation, self.durable - self._head.base + 1, self._crew.settings.events_max,
        )  # fmt: skip


def chained(events: list[Produced], checksum: int, sequence: int, epoch: int) -> list[NewEvent]:
    """Chain entries after the event with this checksum and sequence, as `checksum.following` does."""
    out = []
    for p in events:
        sequence += 1
        name, version, salted = KINDS[type(p.event)]
        body = p.body
        checksum = crc32(body, crc32(pack_place(p.at, epoch, sequence), checksum ^ salted))
        out.append(NewEvent(name, version, p.at, body, checksum))
    return out


def restarts(produced: Sequence[Produced], after: int) -> tuple[int, int]:
    """How many of the events after sequence `after` begin a generation, and the sequence of the last of them."""
    begins = [n for n, entry in enumerate(produced, after + 1) if isinstance(entry.event, ev.RunRestarted)]
    return len(begins), begins[-1] if begins else 0


def reservation_rows(produced: Sequence[Produced], after: int) -> tuple[ReservationRow, ...]:
    """The reservations from tranches among the events after sequence `after`."""
    rows = []
    for sequence, entry in enumerate(produced, after + 1):
        if isinstance(entry.event, ev.CallReserved):
            rows += [ReservationRow(tranche, sequence) for tranche in entry.event.tranches]
    return tuple(rows)


def state_row(produced: Sequence[Produced], after: int) -> StateRow | None:
    """The run's typed state after the events that follow sequence `after`; None: they don't change it."""
    for place in range(len(produced) - 1, -1, -1):
        event = produced[place].event
        if isinstance(event, ev.StateSet):
            return StateRow(event.state_version, produced[place].data, after + place + 1)
    return None
