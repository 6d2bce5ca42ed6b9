"""Guards broken on purpose, one (or a pair that backs each other up) at a time: staying green is a hole.

A mutant patches a class for as long as its block lasts; the program has no switch that turns a guard off.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from pointsman.coordinator.budgets.ledger import Ledger
from pointsman.coordinator.budgets.recovery import Recovery
from pointsman.coordinator.driving import draft, redriving
from pointsman.coordinator.driving.attempt import Attempt
from pointsman.coordinator.driving.attempts import Attempts
from pointsman.coordinator.driving.dispatcher import Dispatcher
from pointsman.coordinator.driving.driver import Driver
from pointsman.coordinator.driving.recorder import Recorder
from pointsman.coordinator.owning import loading
from pointsman.kernel import events as ev
from pointsman.kernel import redriving as kernel_redriving
from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.observing import Observing
from pointsman.kernel.policy.amounts import NOTHING, Amount
from pointsman.kernel.requests import Produced
from pointsman.ports.event_log import ENDED_STATUSES, Append, AppendResult, Head, NewEvent, Outcome, Resolution
from pointsman.stores.memory import MemoryDatabase, database
from pointsman.stores.memory.database import HeadRow
from pointsman.stores.memory.event_log import MemoryEventLog
from pointsman.stores.memory.ownership import MemoryOwnership
from pointsman.stores.memory.retention import MemoryRetention
from pointsman.testing.sim.faulty import Network
from pointsman.testing.sim.mutants_outside import OUTSIDE
from pointsman.testing.sim.patching import patched
from pointsman.testing.sim.sqlite.mutants import SQLITE_MUTANTS


@contextmanager
def no_fence_and_no_primary_key() -> Iterator[None]:
    """Appends go through whatever the epoch and the sequence are."""

    def refuse(_: MemoryEventLog, row: HeadRow | None, item: Append) -> Outcome | None:
        if row is None:
            return Outcome.MISSING
        return Outcome.MAIL_ARRIVED if item.closes and row.mail != item.folded else None

    with patched(MemoryEventLog, "_refuse_move", refuse):
        yield


@contextmanager
def no_request_first() -> Iterator[None]:
    """A call goes to its agent as soon as it is decided, before it is durable."""
    send = Driver._send

    def hasty(self: Driver, *args: Any, **kwargs: Any) -> None:
        self._attempts.dispatch_ready()
        send(self, *args, **kwargs)

    with patched(Driver, "_send", hasty):
        yield


@contextmanager
def no_nonce() -> Iterator[None]:
    """After a lost reply the same events are appended again, at the end, without finding out."""

    async def blindly(self: Recorder, batch: list[Append], lane: int) -> list[AppendResult]:
        heads = await _patiently(lambda: self._log.heads([append.run for append in batch]))
        again = [_at_the_end(append, heads.get(append.run)) for append in batch]
        results: list[AppendResult] = await _patiently(lambda: self._log.append(again, lane=lane))
        return results

    with patched(Recorder, "_find_out", blindly):
        yield


def _at_the_end(append: Append, head: Head | None) -> Append:
    if head is None:
        return append
    return msgspec.structs.replace(append, expected=head.sequence, create=None, epoch=head.epoch)


async def _patiently(ask: Callable[[], Any]) -> Any:
    while True:
        with contextlib.suppress(Exception):
            return await ask()


@contextmanager
def every_lost_reply_believed() -> Iterator[None]:
    """After a lost reply the append is taken for durable."""

    async def ours(*_: Any) -> Resolution:
        return Resolution.OURS

    with patched(MemoryEventLog, "resolve", ours):
        yield


@contextmanager
def no_lease_gate() -> Iterator[None]:
    """Calls are dispatched on a lease that may have lapsed."""
    dispatch = Attempts.dispatch_ready

    class Trusting:
        def __init__(self, lease: Any) -> None:
            self._lease = lease

        def __getattr__(self, name: str) -> Any:
            return getattr(self._lease, name)

        def is_trusted(self) -> bool:
            return True

    def careless(self: Attempts) -> None:
        lease = self._crew.lease
        self._crew.lease = Trusting(lease)
        try:
            dispatch(self)
        finally:
            self._crew.lease = lease

    with patched(Attempts, "dispatch_ready", careless):
        yield


@contextmanager
def no_barrier() -> Iterator[None]:
    """After a lost reply what is found is believed, although no standby may have it."""
    with patched(Network, "barrier", lambda _: None):
        yield


@contextmanager
def no_idempotency_key() -> Iterator[None]:
    """Each attempt has a key of its own."""
    dispatch = Dispatcher.dispatch

    def careless(self: Dispatcher, attempt: Attempt, *more: Any) -> None:
        attempt.key = f"{attempt.key}/{attempt.caller.epoch}"
        dispatch(self, attempt, *more)

    with patched(Dispatcher, "dispatch", careless):
        yield


@contextmanager
def no_mailbox_key() -> Iterator[None]:
    """Mail that came before under the same key is taken in again."""
    accept = MemoryDatabase.accept_mail

    def careless(self: MemoryDatabase, run: str, key: str, kind: str, body: bytes) -> int:
        row = self.runs.get(run)
        if row is not None and key in row.letters and row.status not in ENDED_STATUSES:
            row.letters[f"{key} before {row.mail}"] = row.letters.pop(key)
        return accept(self, run, key, kind, body)

    with patched(MemoryDatabase, "accept_mail", careless):
        yield


@contextmanager
def no_terminal_event_rule() -> Iterator[None]:
    """A run that has ended takes mail."""
    with patched(database, "ENDED_STATUSES", ()):
        yield


class Agreeable(str):
    """Equal to every name."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


@contextmanager
def no_replay_check() -> Iterator[None]:
    """In replay, a call is taken for the recorded one whatever agent it is for."""
    take = Observing._take

    def careless(self: Observing, event_type: type[ev.Event], call: str) -> ev.Event | None:
        event = take(self, event_type, call)
        return msgspec.structs.replace(event, target=Agreeable()) if isinstance(event, ev.CallRequested) else event

    with patched(Observing, "_take", careless):
        yield


@contextmanager
def no_mail_barrier() -> Iterator[None]:
    """An append that parks or ends a run moves although mail has arrived."""
    refuse = MemoryEventLog._refuse_move

    def careless(self: MemoryEventLog, row: HeadRow | None, item: Append) -> Outcome | None:
        outcome = refuse(self, row, item)
        return None if outcome is Outcome.MAIL_ARRIVED else outcome

    with patched(MemoryEventLog, "_refuse_move", careless):
        yield


@contextmanager
def no_epoch_raised() -> Iterator[None]:
    """A claim leaves the epoch as it was."""
    claim = MemoryOwnership._claim

    def flat(self: MemoryOwnership, row: HeadRow, *args: Any) -> Head:
        row.epoch -= 1
        return claim(self, row, *args)

    with patched(MemoryOwnership, "_claim", flat):
        yield


@contextmanager
def no_reservation() -> Iterator[None]:
    """An append does not say which of its events spend from a tranche."""
    with patched(draft, "reservation_rows", lambda *_: ()):
        yield


@contextmanager
def settled_before_it_is_known() -> Iterator[None]:
    """A dead coordinator's tranche is settled although calls that spend from it have no end."""
    truth_of = Recovery._truth_of

    async def hasty(self: Recovery, tranche: str) -> tuple[Amount, Amount]:
        return (await truth_of(self, tranche))[0], NOTHING

    with patched(Recovery, "_truth_of", hasty):
        yield


@contextmanager
def no_certainty_of_a_grant() -> Iterator[None]:
    """After a lost reply a ledger's append is taken for one that never came."""
    write = Ledger._append

    async def given_up(self: Ledger, *args: Any) -> None:
        with contextlib.suppress(StoreUnavailable):
            await write(self, *args)

    with patched(Ledger, "_append", given_up):
        yield


@contextmanager
def no_chain_over_owners() -> Iterator[None]:
    """Each owner begins the checksums anew, and none looks at those before."""
    chained = draft.chained

    def unmindful(events: list[Produced], _: int, sequence: int, epoch: int) -> list[NewEvent]:
        return chained(events, epoch, sequence, epoch)

    with patched(draft, "chained", unmindful), patched(loading, "first_damage", lambda *_: None):
        yield


@contextmanager
def every_redrive_believed() -> Iterator[None]:
    """Who redrives a run is told that he did, whoever was faster."""
    carry_out = redriving._carry_out

    async def believed(*args: Any, **kwargs: Any) -> bool:
        await carry_out(*args, **kwargs)
        return True

    with patched(redriving, "_carry_out", believed):
        yield


@contextmanager
def nothing_kept_by_a_redrive() -> Iterator[None]:
    """What others did for a run behind the place from which it goes on is void too."""
    with patched(kernel_redriving, "_kept", lambda *_: []):
        yield


@contextmanager
def no_deaths_counted() -> Iterator[None]:
    """Nobody remembers how many owners a run has ended."""
    claim = MemoryOwnership._claim

    def forgiving(self: MemoryOwnership, row: HeadRow, *args: Any) -> Head:
        row.takeovers = 0
        return claim(self, row, *args)

    with patched(MemoryOwnership, "_claim", forgiving):
        yield


@contextmanager
def every_append_is_progress() -> Iterator[None]:
    """A run under a budget, whose owners each set aside anew what its call may cost, is never suspected."""
    move = MemoryEventLog._move

    def forgiving(self: MemoryEventLog, row: HeadRow, item: Append) -> None:
        move(self, row, item)
        row.takeovers = 0

    with patched(MemoryEventLog, "_move", forgiving):
        yield


@contextmanager
def no_look_at_checksums() -> Iterator[None]:
    """A log is driven on whatever its checksums are."""
    with patched(loading, "first_damage", lambda *_: None):
        yield


@contextmanager
def no_thought_of_parents() -> Iterator[None]:
    """Retention deletes what ended, whatever becomes of its parent."""
    with patched(MemoryRetention, "_parent_is_over", lambda *_: True):
        yield


MUTANTS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "fence+primary-key": no_fence_and_no_primary_key,
    "request-first": no_request_first,
    "nonce": no_nonce,
    "resolve": every_lost_reply_believed,
    "barrier": no_barrier,
    "lease-gate": no_lease_gate,
    "idempotency-key": no_idempotency_key,
    "mailbox-key": no_mailbox_key,
    "mail-barrier": no_mail_barrier,
    "terminal-event": no_terminal_event_rule,
    "replay-check": no_replay_check,
    "epoch": no_epoch_raised,
    "checksum-chain": no_chain_over_owners,
    "budget-reservation": no_reservation,
    "settled-when-known": settled_before_it_is_known,
    "certain-grant": no_certainty_of_a_grant,
    "redrive-fence": every_redrive_believed,
    "redrive-keeps": nothing_kept_by_a_redrive,
    "deaths-counted": no_deaths_counted,
    "deaths-without-progress": every_append_is_progress,
    "checksum-look": no_look_at_checksums,
    "retention-parents": no_thought_of_parents,
    **SQLITE_MUTANTS,
    **OUTSIDE,
}
