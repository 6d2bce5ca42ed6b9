"""The tables that several memory stores share, and the writes that more than one port makes.

Every write here is one atomic step: none awaits. Rows are kept and scanned in the order in which they were
made, so that the same calls give the same answers in every process. The only clock is the injected one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence, Set
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
from pointsman.ports.ownership import Definition
from pointsman.ports.system_log import SystemHead
from pointsman.stores.memory.clock import SystemClock
from pointsman.stores.memory.wakeup import Inbound

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
        )  # fmt: skip


@dataclass(slots=True)
class IncarnationRow:
    number: int
    name: str
    address: str
    definitions: tuple[Definition, ...]
    ttl_ms: int
    started_at: int
    expires_at: int
    ended: bool = False
    trial: str | None = None
    """The run that it drives on suspicion."""
    severed: bool = False
    """Its session lock is free: the process is gone, or has lost its connection."""


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


class MemoryDatabase:
    """What a database is to the other stores: several coordinators in one process share one.

    Args:
        clock: the database's clock; leases and timers are due by it alone.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.runs: dict[str, HeadRow] = {}
        self.open_runs: dict[str, HeadRow] = {}
        self.buckets: set[int] = set()
        self.feed: list[tuple[str, Recorded]] = []
        self.incarnations: dict[int, IncarnationRow] = {}
        self.deaths: list[int] = []
        self.inbound: list[Inbound] = []
        self.system: dict[str, SystemRow] = {}
        self.system_changes = 0
        self.board: dict[int, bytes] = {}
        self.tasks: dict[str, HumanTask] = {}
        self.reservations: dict[str, set[tuple[str, int]]] = {}
        self.quarantined_events: list[tuple[str, str, Recorded]] = []
        """Run, reason, and the event that a repair moved away."""
        self._watchers: list[asyncio.Future[None]] = []

    # -- runs ------------------------------------------------------------------------------------------------

    def insert(self, run: str, new: NewRun, epoch: int) -> HeadRow:
        now = self.clock.now()
        row = HeadRow(
            id=run, new=new, attributes=values.encode(dict(new.attributes)), build=new.build, bucket=new.bucket,
            epoch=epoch, created_at=now, updated_at=now,
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

    def erase(self, runs: Set[str]) -> None:
        """Runs that have ended, with everything that is theirs."""
        for run in runs:
            del self.runs[run]
        for place, (run, _) in enumerate(self.feed):
            if run in runs:
                self.feed[place] = ERASED
        for task in [task for task, row in self.tasks.items() if row.run in runs]:
            del self.tasks[task]
        self.quarantined_events = [moved for moved in self.quarantined_events if moved[0] not in runs]
        for spent in self.reservations.values():
            spent -= {item for item in spent if item[0] in runs}

    # -- incarnations ----------------------------------------------------------------------------------------

    def register(self, name: str, address: str, definitions: Sequence[Definition], ttl_ms: int) -> IncarnationRow:
        now = self.clock.now()
        row = IncarnationRow(
            number=len(self.incarnations) + 1, name=name, address=address, definitions=tuple(definitions),
            ttl_ms=ttl_ms, started_at=now, expires_at=now + ttl_ms,
        )  # fmt: skip
        self.incarnations[row.number] = row
        self._wake_watchers()
        return row

    def living(self) -> Iterator[IncarnationRow]:
        return (row for row in self.incarnations.values() if not row.ended)

    def is_living(self, incarnation: int) -> bool:
        row = self.incarnations.get(incarnation)
        return row is not None and not row.ended

    def end(self, incarnation: int) -> bool:
        """End an incarnation; the first who does wins."""
        if not self.is_living(incarnation):
            return False
        self.incarnations[incarnation].ended = True
        self.board.pop(incarnation, None)
        self.deaths.append(incarnation)
        self._wake_watchers()
        return True

    def sever(self, incarnation: int) -> None:
        """Free its session lock, as the end of its process does: a hint to watchers.

        Where the process lives, its next renewal takes the lock again.
        """
        if self.is_living(incarnation):
            self.incarnations[incarnation].severed = True
            self._wake_watchers()

    async def membership_change(self, timeout_s: float | None) -> None:
        """Wait until an incarnation begins, ends or is severed, at most `timeout_s`."""
        watcher = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        try:
            await asyncio.wait((watcher,), timeout=timeout_s)
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def _wake_watchers(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)
