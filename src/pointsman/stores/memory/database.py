"""The tables that several memory stores share, and the writes that more than one port makes.

Every write here is one atomic step: none awaits. Rows are kept and scanned in the order in which they were
made, so that the same calls give the same answers in every process. The only clock is the injected one.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final

import msgspec

from pointsman.kernel import values
from pointsman.kernel.errors import DuplicateMail, RunEnded, UnknownRun
from pointsman.kernel.events import Recorded
from pointsman.ports.clock import Clock
from pointsman.ports.event_log import ENDED_STATUSES, Head, NewRun
from pointsman.ports.human_tasks import HumanTask
from pointsman.ports.mailbox import Mail
from pointsman.ports.notices import Notice
from pointsman.ports.states import StateRow
from pointsman.ports.system_log import SystemHead
from pointsman.stores.inprocess.clock import SystemClock
from pointsman.stores.inprocess.membership import Membership

ERASED: Final = ("", Recorded(0, 0, "", 0, b""))
"""What is left of a deleted run's event in the feed: nothing, in its place, so that cursors hold."""


@dataclass(slots=True)
class HeadRow:
    """A run: its head, its stream (with the nonce that wrote each event) and its mail by key."""

    id: str
    new: NewRun
    attributes: bytes
    build: str
    bucket: int
    epoch: int
    created_at: int
    updated_at: int
    status: str = "running"
    owner: int | None = None
    mail: int = 0
    folded: int = 0
    takeovers: int = 0
    wake_at: int | None = None
    ended_at: int | None = None
    base: int = 1
    generation: int = 1
    events: list[Recorded] = field(default_factory=list)
    nonces: list[bytes] = field(default_factory=list)
    letters: dict[str, Mail] = field(default_factory=dict)

    def head(self) -> Head:
        new = self.new
        return Head(
            id=self.id, workflow=new.workflow, version=new.version, build=self.build, status=self.status,
            sequence=len(self.events), epoch=self.epoch, owner=self.owner, mail=self.mail, folded=self.folded,
            takeovers=self.takeovers, wake_at=self.wake_at, tenant=new.tenant,
            attributes=msgspec.json.decode(self.attributes), digest=new.digest, bucket=self.bucket,
            parent=new.parent, created_at=self.created_at, updated_at=self.updated_at, ended_at=self.ended_at,
            base=self.base, generation=self.generation,
        )  # fmt: skip


@dataclass(slots=True)
class SystemRow:
    """A stream without an owner. `changed`: how many appends all such streams had seen with its last."""

    stream: str
    sequence: int = 0
    state: bytes = b""
    updated_at: int = 0
    changed: int = 0
    events: list[Recorded] = field(default_factory=list)

    def head(self) -> SystemHead:
        return SystemHead(self.stream, self.sequence, self.state, self.updated_at)


@dataclass(slots=True)
class NoticeEntry:
    """A notice and when it is due."""

    notice: Notice
    due_at: int


class MemoryDatabase(Membership):
    """What a database is to the other stores: several coordinators in one process share one.

    Args:
        clock: the database's clock; leases and timers are due by it alone.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock if clock is not None else SystemClock())
        self.runs: dict[str, HeadRow] = {}
        self.open_runs: dict[str, HeadRow] = {}
        self.buckets: set[int] = set()
        self.feed: list[tuple[str, Recorded]] = []
        self.system: dict[str, SystemRow] = {}
        self.system_changes = 0
        self.tasks: dict[str, HumanTask] = {}
        self.states: dict[str, StateRow] = {}
        self.notices: dict[str, NoticeEntry] = {}
        self.reservations: dict[str, set[tuple[str, int]]] = {}
        self.quarantined_events: list[tuple[str, str, Recorded]] = []
        """Run, reason, and the event that a repair moved away."""

    # -- runs ------------------------------------------------------------------------------------------------

    def insert(self, run: str, new: NewRun, epoch: int) -> HeadRow:
        now = self.clock.now()
        row = HeadRow(
            id=run, new=new, attributes=values.encode(dict(new.attributes)), build=new.build, bucket=new.bucket,
            epoch=epoch, created_at=now if new.created_at is None else new.created_at, updated_at=now,
        )  # fmt: skip
        self.runs[run] = self.open_runs[run] = row
        self.buckets.add(new.bucket)
        return row

    def accept_mail(self, run: str, key: str, kind: str, body: bytes) -> int:
        """One mail, its number, and the run due at once where nobody owns it.

        Raises:
            UnknownRun, DuplicateMail, RunEnded.
        """
        row = self.runs.get(run)
        if row is None:
            raise UnknownRun(f"no run has the id {run!r}")
        if key in row.letters:
            raise DuplicateMail
        if row.status in ENDED_STATUSES:
            raise RunEnded
        now = self.clock.now()
        row.mail += 1
        row.letters[key] = Mail(number=row.mail, key=key, kind=kind, body=bytes(body), at=now)
        if row.owner is None:
            row.wake_at = min(now, row.wake_at or now)
        return row.mail

    def write_state(self, run: str, state: StateRow | None) -> None:
        """What stands of a run's typed state from now on."""
        if state is None or not state.version:
            self.states.pop(run, None)
        else:
            self.states[run] = state

    def erase(self, runs: Set[str]) -> None:
        """Runs that have ended, with everything that is theirs."""
        for run in runs:
            del self.runs[run]
            self.states.pop(run, None)
        for place, (run, _) in enumerate(self.feed):
            if run in runs:
                self.feed[place] = ERASED
        for task in [task for task, row in self.tasks.items() if row.run in runs]:
            del self.tasks[task]
        self.quarantined_events = [moved for moved in self.quarantined_events if moved[0] not in runs]
        for spent in self.reservations.values():
            spent -= {item for item in spent if item[0] in runs}
