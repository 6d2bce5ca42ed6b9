"""Drive one run, from the moment that this coordinator owns it until it ends, parks, or belongs to somebody else.

One task a run. Its loop is the whole life of a step: take in what happened, let the kernel answer, append both in one
statement, and only then act: request-first. An append that is not answered with MOVED changes nothing outside.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque

import msgspec

from pointsman.coordinator import mail as mails
from pointsman.coordinator.children import cancel_children, first_append
from pointsman.coordinator.crew import Crew
from pointsman.coordinator.dispatcher import Attempt
from pointsman.kernel import events as ev
from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.execution import Execution
from pointsman.kernel.requests import Produced
from pointsman.kernel.state import PendingCall
from pointsman.ports.event_log import Append, Head, NewEvent, NewRun, Outcome

logger = logging.getLogger("pointsman.driver")

STORE_RETRY_S = 0.05
WITHHELD_MS = 50

STATUS_OF = {ev.RunCompleted: "completed", ev.RunFailed: "failed", ev.RunWasCancelled: "cancelled"}


class Exit(enum.Enum):
    """Why a run is no longer driven here."""

    ENDED = "ended"
    PARKED = "parked"
    LOST = "lost"
    """Fenced, or not what this coordinator thought: whatever it holds of the run is void."""
    EXISTS = "exists"
    """It was to be created, and was there already."""
    DRAINED = "drained"
    """Nothing of it is under way here: it can be handed over."""


class Driver:
    """See the module. `post`, `poke` and `mail_came` may be called at any time."""

    def __init__(self, crew: Crew, execution: Execution, head: Head, *, create: NewRun | None = None) -> None:
        self.execution = execution
        self.epoch = head.epoch
        self.created: asyncio.Future[Exit | None] | None = None
        """Resolved once the first append is durable (None), or the run was found to exist."""
        self._crew = crew
        self._head = head
        self._durable = head.sequence
        self._mail = head.mail
        self._create = create
        self._outcomes: deque[tuple[str, int, bytes | ev.Failure]] = deque()
        self._attempts: dict[str, Attempt] = {}
        self._undurable: list[Produced] = []
        self._withheld: dict[str, None] = {}
        """Calls that were not dispatched because the lease could not be trusted at that moment."""
        self._is_hinted = False
        self._is_closed = False
        """The append that parks or ends the run is durable."""
        self._is_awake = False
        self._waiter: asyncio.Future[None] | None = None
        """A future of its own instead of `asyncio.Event`: a step waits once, and an Event costs it 3 µs more."""

    @property
    def run(self) -> str:
        return self.execution.state.run

    @property
    def durable(self) -> int:
        """The sequence that the log is known to have reached."""
        return self._durable

    @property
    def head(self) -> Head:
        """The run's head as its last durable append left it."""
        return msgspec.structs.replace(self._head, sequence=self._durable, updated_at=self.execution.state.last_at)

    # -- what happens ---------------------------------------------------------------------------------------------

    def post(self, call: str, attempt: int, result: bytes | ev.Failure) -> None:
        """An attempt is over."""
        self._attempts.pop(call, None)
        self._outcomes.append((call, attempt, result))
        self._wake()

    def poke(self) -> None:
        """Look again: time has passed, or the coordinator drains."""
        self._wake()

    def hinted(self) -> None:
        """There may be mail. A hint is never counted as mail: it may be of mail that is folded already."""
        self._is_hinted = True
        self._wake()

    def mail_came(self, count: int) -> None:
        """The run's mailbox holds at least `count` mails."""
        if count > self._mail:
            self._mail = count
            self._wake()

    # -- the loop -------------------------------------------------------------------------------------------------

    async def drive(self) -> Exit:
        """Returns why it is over. Raises what the kernel raises when code and log do not fit (CodeChanged)."""
        if self._create is None:
            self._resume_effects()
        try:
            while True:
                self._is_awake = False
                try:
                    over = await self._step()
                except StoreUnavailable as error:
                    # Only mail was read or posted; an append finds out for itself. Nothing is lost by asking again.
                    logger.info("run %s: %s; trying again", self.run, error)
                    await asyncio.sleep(STORE_RETRY_S)
                    continue
                if over is not None:
                    return over
        finally:
            for attempt in self._attempts.values():
                attempt.abandon()

    async def _step(self) -> Exit | None:
        if self._mail > self.execution.state.folded or self._is_hinted:
            await self._read_mail()
        self._take_in()
        self._undurable += self.execution.take()
        if self.execution.ending is not None:
            return await self._end()
        if self._can_park():
            return await self._park()
        if self._undurable or self._create is not None:
            return await self._append("running", self._crew.lease.incarnation)
        if self._crew.is_draining and not self._attempts:
            return Exit.DRAINED
        self._dispatch_withheld()
        if not self._is_awake:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return None

    def _wake(self) -> None:
        self._is_awake = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _read_mail(self) -> None:
        execution, clock = self.execution, self._crew.store.clock
        self._is_hinted = False
        letters = await self._crew.store.mailbox.read(self.run, after=execution.state.folded)
        for letter in letters:
            execution.mailed(mails.event_of(letter), clock.now())
        self._mail = max(self._mail, execution.state.folded)

    def _take_in(self) -> None:
        """Everything that has happened in this process, one at a time, in the order in which it came."""
        execution, now = self.execution, self._crew.store.clock.now()
        while self._outcomes:
            call, number, result = self._outcomes.popleft()
            if isinstance(result, ev.Failure):
                execution.attempt_failed(call, number, result, now)
            else:
                execution.completed(call, number, result, now)
        due = execution.state.next_due()
        if due is not None and due <= now:
            execution.time_passed(now)

    def _can_park(self) -> bool:
        state = self.execution.state
        if self._create is not None or self._outcomes or self._attempts or not state.is_idle():
            return False
        due = state.next_due()
        return due is None or due - self._crew.store.clock.now() > self._crew.settings.park_after_ms

    async def _park(self) -> Exit | None:
        """Give the run up until its next timer or mail. Mail that is already there comes first."""
        due = self.execution.state.next_due()
        over = await self._append("parked", None, closes=True, wake_at=due)
        return over or (Exit.PARKED if self._is_closed else None)

    async def _end(self) -> Exit | None:
        """Append the terminal event, last. When mail arrived meanwhile, it is recorded before it."""
        ending = self.execution.ending
        assert ending is not None
        await cancel_children(self._crew, self.execution.state)
        now = self._crew.store.clock.now()
        last = Produced(ending, max(now, self.execution.state.last_at), ev.encode_event(ending))
        over = await self._append(STATUS_OF[type(ending)], None, closes=True, last=last)
        if over is None and self._is_closed:
            self.execution.close_log(now)
            self.execution.take()
            self._head = msgspec.structs.replace(
                self._head, status=STATUS_OF[type(ending)], owner=None, ended_at=last.at, wake_at=None
            )
            if self.execution.state.parent is not None:
                self._crew.on_due(self.execution.state.parent)
            return Exit.ENDED
        return over

    async def _append(
        self, status: str, owner: int | None, *, closes: bool = False, wake_at: int | None = None,
        last: Produced | None = None,
    ) -> Exit | None:  # fmt: skip
        """Append what is decided. None: it is durable, or mail came first (then `_mail` says so) and nothing
        happened."""
        state = self.execution.state
        events = self._undurable + ([last] if last else [])
        letter = None
        if last is not None and state.parent is not None and state.parent_call is not None:
            letter = mails.letter_to_parent(state.parent, state.parent_call, last.event)
        append = Append(
            run=self.run, epoch=self.epoch, expected=self._durable, nonce=self._crew.ids.nonce(),
            events=[NewEvent(type(p.event).__name__, p.event.VERSION, p.at, p.body) for p in events],
            status=status, owner=owner, folded=state.folded, closes=closes, wake_at=wake_at,
            create=self._create, letter=letter,
        )  # fmt: skip
        children = [
            first_append(self._crew, state, p.event, p.data, p.at)
            for p in self._undurable
            if isinstance(p.event, ev.ChildStarted)
        ]
        result = (await self._crew.recorder.submit([append, *children]))[0]
        if result.outcome is Outcome.MOVED:
            self._is_closed = closes
            self._moved(events, result.mail)
            return None
        if result.outcome is Outcome.MAIL_ARRIVED:
            self.mail_came(max(result.mail, state.folded + 1))
            return None
        if self._create is not None and result.outcome in (Outcome.EXISTS, Outcome.CONFLICT):
            return Exit.EXISTS  # CONFLICT: the reply was lost, and what stands there is not ours
        self._crew.stats.runs_fenced += 1
        logger.info("run %s: %s at sequence %d, epoch %d", self.run, result.outcome.value, self._durable, self.epoch)
        return Exit.LOST

    def _moved(self, events: list[Produced], mail: int) -> None:
        """It is durable: now it may have effects."""
        self._durable += len(events)
        self._crew.stats.events += len(events)
        decided, self._undurable = self._undurable, []
        self._create = None
        if self.created is not None and not self.created.done():
            self.created.set_result(None)
        self._crew.on_moved(self.run)
        self.mail_came(mail)
        for produced in decided:
            if not isinstance(produced.event, ev.Cause):
                self._take_effect(produced.event)

    # -- effects --------------------------------------------------------------------------------------------------

    def _take_effect(self, event: ev.Event) -> None:
        state = self.execution.state
        match event:
            case ev.CallRequested() | ev.CallRetried():
                pending = state.calls.get(event.call)
                if pending is not None and self.execution.ending is None:
                    self._dispatch(pending)
            case ev.TimerSet(due=due) | ev.AttemptFailed(retry_at=due):
                self._crew.timers.wake_at(due, self.run)
            case ev.ChildStarted():
                self._crew.on_due(event.run)
            case ev.CallCancelled():
                attempt = self._attempts.pop(event.call, None)
                if attempt is not None:
                    attempt.abandon()
            case _:
                pass

    def _resume_effects(self) -> None:
        """After a replay: what was under way is under way again, under the same key and attempt."""
        state = self.execution.state
        for due in [*state.timers.values(), *(pending.retry_at for pending in state.calls.values())]:
            if due is not None:
                self._crew.timers.wake_at(due, self.run)
        new = {p.event.call for p in self.execution.peek() if isinstance(p.event, ev.CallRequested)}
        for pending in self.execution.state.calls.values():
            if pending.retry_at is None and pending.call not in new:
                self._dispatch(pending)

    def _dispatch(self, pending: PendingCall) -> None:
        """Not while draining (the next owner will), and not on a lease that may have lapsed."""
        if self._crew.is_draining:
            return
        if not self._crew.lease.is_trusted():
            # A slow renewal may yet be answered: then it is dispatched, and else everything here is dropped.
            self._withheld[pending.call] = None
            self._crew.timers.wake_at(self._crew.store.clock.now() + WITHHELD_MS, self.run)
            return
        agent = self._crew.directory.agent(pending.target)
        if agent is None:
            failure = ev.Failure("unknown_agent", f"no agent is named {pending.target!r} here", retryable=False)
            self.post(pending.call, pending.attempt, failure)
            return
        self._attempts[pending.call] = self._crew.dispatcher.dispatch(
            agent, pending, run=self.run, tenant=self.execution.state.tenant, epoch=self.epoch, on_end=self.post
        )

    def _dispatch_withheld(self) -> None:
        withheld, self._withheld = self._withheld, {}
        for call in withheld:
            pending = self.execution.state.calls.get(call)
            if pending is not None and pending.retry_at is None and call not in self._attempts:
                self._dispatch(pending)
