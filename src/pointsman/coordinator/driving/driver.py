"""Drive one run, from the moment that this coordinator owns it until it ends, parks, or belongs to somebody else.

One task a run. Its loop is the whole life of a step: take in what happened, let the kernel answer, append both in one
statement, and only then act: request-first. An append that is not answered with MOVED changes nothing outside. The
recorder tells the answer to the driver, not to its task, which sleeps on unless there is more to do than to act.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pointsman.coordinator.driving import mail as mails
from pointsman.coordinator.driving.attempts import Attempts
from pointsman.coordinator.driving.children import cancel_children
from pointsman.coordinator.driving.consequences import SETS_IN_MOTION, set_in_motion, set_in_motion_again
from pointsman.coordinator.driving.crew import Crew
from pointsman.coordinator.driving.draft import SAYS_MORE, Draft
from pointsman.coordinator.driving.recorder import lane_of
from pointsman.coordinator.driving.redriving import revive_children
from pointsman.kernel import events as ev
from pointsman.kernel.errors import DuplicateMail, RunEnded, StoreUnavailable
from pointsman.kernel.execution import RUN_BYTES, Execution
from pointsman.kernel.people import expired
from pointsman.kernel.policy.amounts import Amount
from pointsman.kernel.requests import Produced
from pointsman.ports.event_log import Append, AppendResult, Head, NewRun, Outcome

logger = logging.getLogger("pointsman.driver")

STORE_RETRY_S = 0.05
DUE_MS = 100
"""A run that is handed over was due so long ago: however wrong the estimate of the database's clock, it is claimed at
once."""
WEIGHED_PARTS = 8
"""A run is weighed again when an eighth of its size has come or gone: calls under way are not counted each time."""
ATTEMPT_REQUESTS = frozenset({ev.CallRequested, ev.CallRetried, ev.CallReassigned})
WITH_EFFECTS = SETS_IN_MOTION | {ev.CallCancelled, ev.CallReserved}
NOTEWORTHY = WITH_EFFECTS | SAYS_MORE
"""Told by type in a set: each `isinstance` of every event would cost a step a microsecond of all."""
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
    """Nothing of it was under way here, and it was handed over."""


class Driver:
    """See the module. `post`, `poke` and `mail_came` may be called at any time."""

    def __init__(self, crew: Crew, execution: Execution, head: Head, *, create: NewRun | None = None) -> None:
        self.execution = execution
        self.run = execution.state.run
        self.epoch = head.epoch
        self.created: asyncio.Future[Exit | None] | None = None
        """Resolved once the first append is durable (None), or the run was found to exist."""
        self.size = execution.size
        """Rough bytes in memory, as it was last weighed."""
        self.on_weighed: Callable[[int], None] | None = None
        """Told by how much it has grown, or shrunk."""
        self._weigh_at = execution.traffic + max(RUN_BYTES, self.size // WEIGHED_PARTS)
        self._crew = crew
        self._now = crew.store.clock.now
        self._incarnation = crew.lease.incarnation
        self._draft = Draft(crew, execution, head, create)
        self._mail = head.mail
        """So many mails the run is known to have."""
        self._may_have_mail = head.mail > execution.state.folded
        """There may be some that is not folded."""
        self._outcomes: deque[tuple[str, int, bytes | ev.Failure, Amount | None, tuple[ev.Emission, ...]]] = deque()
        self._attempts = Attempts(crew, execution, head.epoch, self._wake, self.post, is_created=create is None)
        self._is_due = create is None
        """A timer or a retry may be: `Timers` pokes whose time has come, so no step looks for itself."""
        self._has_effects = False
        """Something that is decided and not durable yet will have effects."""
        self._is_closed = False
        """The append that parks or ends the run is durable."""
        self._lane = lane_of(self.run)
        self._sent: Append | None = None
        """The append that is on its way."""
        self._trouble: Exception | None = None
        """What came instead of its answer, or of what the answer led to."""
        self._over: Exit | None = None
        self._is_awake = False
        self._waiter: asyncio.Future[None] | None = None
        """A future of its own instead of `asyncio.Event`: a step waits once, and an Event costs it 3 µs more."""

    @property
    def durable(self) -> int:
        """The sequence that the log is known to have reached."""
        return self._draft.durable

    @property
    def reached(self) -> int:
        """As far as the run got on: the log's sequence, without what was only noted here."""
        return self._draft.durable - self._draft.noted

    @property
    def head(self) -> Head:
        """The run's head as its last durable append left it."""
        return self._draft.head

    # -- what happens ---------------------------------------------------------------------------------------------

    def post(
        self, call: str, attempt: int, result: bytes | ev.Failure, spent: Amount | None,
        emitted: tuple[ev.Emission, ...] = (),
    ) -> None:  # fmt: skip
        """An attempt is over. `spent` None: how it ended is unknown."""
        self._attempts.under_way.pop(call, None)
        self._outcomes.append((call, attempt, result, spent, emitted))
        self._wake()

    def poke(self) -> None:
        """Look again: something is due, or the coordinator drains."""
        self._is_due = True
        self._wake()

    def hinted(self) -> None:
        """There may be mail. A hint is never counted as mail: it may be of mail that is folded already."""
        self._may_have_mail = True
        self._wake()

    def mail_came(self, count: int) -> None:
        """The run's mailbox holds at least `count` mails."""
        if count > self._mail:
            self._mail = count
            self._may_have_mail = True
            self._wake()

    # -- the loop -------------------------------------------------------------------------------------------------

    async def drive(self) -> Exit:
        """Returns why it is over. Raises what the kernel raises when code and log do not fit (CodeChanged)."""
        if self._draft.create is None:
            self._resume()
            await revive_children(self._crew, self.execution.state)
        new_future = asyncio.get_running_loop().create_future
        try:
            while (over := self._over) is None:
                try:
                    self._is_awake = False
                    await self._step()
                    if self._over is None and (self._sent is not None or not self._is_awake):
                        self._waiter = new_future()
                        await self._waiter
                    if self._trouble is not None:
                        trouble, self._trouble = self._trouble, None
                        raise trouble
                except StoreUnavailable as error:
                    # Mail was read or posted, or the recorder has stopped. Nothing is lost by asking again.
                    logger.info("run %s: %s; trying again", self.run, error)
                    await asyncio.sleep(STORE_RETRY_S)
            return over
        finally:
            self._sent, over = None, self._over  # nobody acts on its answer any more
            self._attempts.close(was_refused=over in (Exit.LOST, Exit.EXISTS), has_ended=over is Exit.ENDED)

    async def _step(self) -> None:
        """Take in what happened, decide, and send it off. It waits for mail and for the last append alone."""
        if self._may_have_mail:
            await self._read_mail()
        execution, attempts, crew, draft = self.execution, self._attempts, self._crew, self._draft
        state, now = execution.state, self._now()
        self._take_in(now)
        if state.tasks is not None and draft.create is None:
            await self._expire(now)
        if crew.is_draining:
            attempts.withdraw()
        if execution.new:
            self._collect()
        while attempts.wanted:
            attempts.look(now)
            if execution.new:
                self._collect()
        if execution.ending is not None:
            over = await self._end()
        elif state.is_idle() and self._can_park(now):
            over = await self._park()
        elif crew.is_draining and not attempts.are_left and draft.create is None:
            over = await self._hand_over()
        else:
            if draft.entries or draft.create is not None:
                self._send()
            else:
                attempts.dispatch_ready()
            return
        self._over, self._is_awake = over, True  # mail came first, or children had to be there: look again

    def _send(self) -> None:
        """Append what is decided; `_told` goes on."""
        appends = self._draft.appends("running", self._incarnation)
        self._sent = appends[0]
        self._crew.recorder.submit(appends, self._lane, self._told)

    def _told(self, answer: AppendResult | Exception) -> None:
        """What became of the append that was sent. To make the attempts that it asks for, the task need not wake up."""
        sent, self._sent = self._sent, None
        if sent is None:  # this driver is gone
            return
        attempts = self._attempts
        try:
            if isinstance(answer, Exception):
                raise answer
            if answer.outcome is Outcome.MOVED:
                self._moved(sent, None, answer.mail)
                if not self._is_awake and not attempts.wanted and attempts.under_way:
                    return
            else:
                self._over = self._refused(answer)
        except Exception as error:  # noqa: BLE001  raised again where the run is driven
            self._trouble = error
        self._wake()

    def _wake(self) -> None:
        self._is_awake = True
        if self._waiter is not None and self._sent is None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _read_mail(self) -> None:
        execution, clock = self.execution, self._crew.store.clock
        self._may_have_mail = False  # what comes meanwhile says so again
        try:
            letters = await self._crew.store.mailbox.read(self.run, after=execution.state.folded)
        except StoreUnavailable:
            self._may_have_mail = True
            raise
        for letter in letters:
            execution.mailed(mails.event_of(letter), clock.now())
        self._mail = max(self._mail, execution.state.folded)
        self._may_have_mail |= self._mail > execution.state.folded

    def _collect(self) -> None:
        """Take over what the kernel produced; attempts that it asks for are wished for."""
        draft, new = self._draft, self.execution.new
        for produced in new:
            kind = type(produced.event)
            if kind in ATTEMPT_REQUESTS:
                self._attempts.wanted.append(produced.event.call)  # type: ignore[attr-defined]
            elif kind in NOTEWORTHY:
                draft.says_more |= kind in SAYS_MORE
                self._has_effects |= kind in WITH_EFFECTS
        draft.entries += new
        new.clear()

    def _take_in(self, now: int) -> None:
        """Everything that has happened in this process, one at a time, in the order in which it came."""
        execution = self.execution
        while self._outcomes:
            call, number, result, spent, emitted = self._outcomes.popleft()
            if isinstance(result, ev.Failure):
                may_retry = partial(self._may_retry, call)
                execution.attempt_failed(call, number, result, now, spent=spent, may_retry=may_retry)
            else:
                execution.completed(call, number, result, now, spent=spent, emitted=emitted)
        if self._is_due:
            self._is_due = False
            execution.time_passed(now)

    async def _expire(self, now: int) -> None:
        """End the human tasks whose time is over, if their answers are not there first: the mailbox decides."""
        for task in expired(self.execution.state.tasks or {}, now):
            body = mails.encode(mails.ExpiryMail(task.call, task.id))
            with suppress(DuplicateMail, RunEnded):
                await self._crew.store.mailbox.post(self.run, mails.answer_key(task.id), mails.EXPIRY, body)
            await self._read_mail()

    def _may_retry(self, call: str) -> bool:
        agent = self._crew.directory.agent(self.execution.state.calls[call].target)
        return agent is None or self._crew.gates.has_retries(agent)

    def _can_park(self, now: int) -> bool:
        if self._draft.create is not None or self._outcomes or self._attempts.under_way:
            return False
        due = self.execution.state.next_due()
        return due is None or due - now > self._crew.settings.park_after_ms

    async def _park(self) -> Exit | None:
        """Give the run up until its next timer or mail. Mail that is already there comes first."""
        due = self.execution.state.next_due()
        over = await self._append("parked", None, closes=True, wake_at=due)
        return over or (Exit.PARKED if self._is_closed else None)

    async def _hand_over(self) -> Exit:
        """Nothing of the run is under way here, and the coordinator drains: the next owner begins at once."""
        now = self._crew.store.clock.now()
        over = await self._append("running", None, wake_at=now - DUE_MS)
        if over is None:
            self._crew.stats.runs_handed_over += 1
            self._crew.on_due(self.run)
        return over or Exit.DRAINED

    async def _end(self) -> Exit | None:
        """Append the terminal event, last. When mail arrived meanwhile, it is recorded before it."""
        execution = self.execution
        if self._draft.says_more and any(type(p.event) is ev.ChildStarted for p in self._draft.entries):
            return await self._append("running", self._incarnation)  # they must be there to be stopped
        await cancel_children(self._crew, execution.state)
        last = execution.last(self._now())
        status = STATUS_OF[type(last.event)]
        over = await self._append(status, None, closes=True, last=last)
        if over is None and self._is_closed:
            execution.close_log(last)
            self._draft.ended(status, last.at)
            if execution.state.parent is not None:
                self._crew.on_due(execution.state.parent)
            return Exit.ENDED
        return over

    async def _append(
        self, status: str, owner: int | None, *, closes: bool = False, wake_at: int | None = None,
        last: Produced | None = None,
    ) -> Exit | None:  # fmt: skip
        """Append what is decided, and wait for it; the answer is that of `_answered`."""
        appends = self._draft.appends(status, owner, closes=closes, wake_at=wake_at, last=last)
        return self._answered(await self._crew.recorder.append(appends), appends[0], last)

    def _answered(self, result: AppendResult, append: Append, last: Produced | None) -> Exit | None:
        """What became of an append. None: it is durable, or mail came first (then `_mail` says so) and nothing
        happened."""
        if result.outcome is not Outcome.MOVED:
            return self._refused(result)
        self._is_closed = append.closes
        self._moved(append, last, result.mail)
        return None

    def _refused(self, result: AppendResult) -> Exit | None:
        if result.outcome is Outcome.MAIL_ARRIVED:
            self.mail_came(max(result.mail, self.execution.state.folded + 1))
            return None
        if self._draft.create is not None and result.outcome in (Outcome.EXISTS, Outcome.CONFLICT):
            return Exit.EXISTS  # CONFLICT: the reply was lost, and what stands there is not ours
        self._crew.stats.runs_fenced += 1
        logger.info("run %s: %s at sequence %d, epoch %d", self.run, result.outcome.value, self.durable, self.epoch)
        return Exit.LOST

    def _moved(self, append: Append, last: Produced | None, mail: int) -> None:
        """It is durable: now it may have effects."""
        draft, attempts = self._draft, self._attempts
        if draft.create is not None:
            attempts.created()
            if self.created is not None and not self.created.done():
                self.created.set_result(None)
        decided = draft.moved(append, last)
        if mail > self._mail:
            self.mail_came(mail)
        self._crew.on_moved(self.run)
        if self.execution.traffic >= self._weigh_at:
            self._weigh()
        if self._has_effects or attempts.reserved:
            self._has_effects = False
            for produced in decided:
                attempts.became_durable(produced.event)
                set_in_motion(self._crew, self.execution.state, produced.event)
        if self.execution.ending is None:
            attempts.dispatch_ready()

    def _weigh(self) -> None:
        before, self.size = self.size, self.execution.size
        self._weigh_at = self.execution.traffic + max(RUN_BYTES, self.size // WEIGHED_PARTS)
        if self.on_weighed is not None:
            self.on_weighed(self.size - before)

    def _resume(self) -> None:
        """After a replay: what was under way is under way again, under the same key and attempt."""
        set_in_motion_again(self._crew, self.execution.state)
        new = {p.event.call for p in self.execution.new if isinstance(p.event, ev.CallRequested)}
        for pending in list(self.execution.state.calls.values()):
            if pending.retry_at is not None or pending.task is not None or pending.call in new:
                continue
            agent = self._crew.directory.agent(pending.target)
            if agent is not None and not agent.idempotent and pending.held_at is None:
                lost = ev.Failure("attempt_lost", "its coordinator died, and it must not be repeated", retryable=False)
                self.post(pending.call, pending.attempt, lost, None)
            else:
                self._attempts.go_on(pending.call, may_have_begun=pending.held_at is None)
