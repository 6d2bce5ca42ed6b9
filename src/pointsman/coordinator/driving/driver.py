"""Drive one run, from the moment that this coordinator owns it until it ends, parks, or belongs to another owner.

Each step takes in what happened, lets the kernel answer, appends both in one statement, and only then acts:
request-first. An append that is not answered with MOVED has no outside effect. Most steps have nothing to wait for and
take one turn of the event loop. The run's only task does the others, and sleeps in between.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from pointsman.coordinator.driving import mail as mails
from pointsman.coordinator.driving.apart import apart
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
    """Drives one run, step by step. `post`, `poke` and `mail_came` may be called at any time."""

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
        self._lane = lane_of(self.run)
        self._sent: Append | None = None
        """The append that is on its way."""
        self._last: Produced | None = None
        """The terminal event, if that is in it."""
        self._trouble: Exception | None = None
        """What came instead of its answer, or of what the answer led to."""
        self._over: Exit | None = None
        self._is_awake = False
        """A step is due."""
        self._takes_turns = create is not None
        """Steps are turns of the event loop (`_turn`): the run's task sleeps, or has not begun."""
        self._waiter: asyncio.Future[None] | None = None
        """What the task sleeps on."""
        self._loop = asyncio.get_running_loop()
        self.context = contextvars.copy_context()
        """In which the run's body runs, in turns and in its task, whoever wakes it: what it sets it finds again, and
        what an agent sets is not for it to see."""

    @property
    def durable(self) -> int:
        """The sequence that the log is known to have reached."""
        return self._draft.durable

    @property
    def reached(self) -> int:
        """The sequence of the run's progress, without events that were only noted here."""
        return self._draft.durable - self._draft.noted

    @property
    def head(self) -> Head:
        """The run's head as of its last durable append."""
        return self._draft.head

    # -- what happens ---------------------------------------------------------------------------------------------

    def post(
        self, call: str, attempt: int, result: bytes | ev.Failure, spent: Amount | None,
        emitted: tuple[ev.Emission, ...] = (),
    ) -> None:  # fmt: skip
        """Report that an attempt is over. `spent` None: how it ended is unknown."""
        self._attempts.under_way.pop(call, None)
        self._outcomes.append((call, attempt, result, spent, emitted))
        self._wake()

    def poke(self) -> None:
        """Look again: something is due, or the coordinator drains."""
        self._is_due = True
        self._wake()

    def hinted(self) -> None:
        """Look for mail. A hint is never counted as mail, because that mail may have been folded already."""
        self._may_have_mail = True
        self._wake()

    def mail_came(self, count: int) -> None:
        """Note that the run's mailbox holds at least `count` mails."""
        if count > self._mail:
            self._mail = count
            self._may_have_mail = True
            self._wake()

    # -- the steps ------------------------------------------------------------------------------------------------

    async def drive(self) -> Exit:
        """Drive the run and return why that is over. Raises what the kernel raises when code and log do not fit
        (CodeChanged).
        """
        try:
            if self._draft.create is None:
                self._resume()
                await revive_children(self._crew, self.execution.state)
                self._is_awake = True
            while (over := self._over) is None:
                try:
                    if self._trouble is not None:
                        trouble, self._trouble = self._trouble, None
                        raise trouble
                    if self._is_awake and self._sent is None:
                        self._is_awake = False
                        await self._step()
                    else:
                        self._waiter = self._loop.create_future()
                        self._takes_turns = True
                        await self._waiter
                except StoreUnavailable as error:
                    # Mail was read or posted, or the recorder has stopped. Nothing is lost by asking again.
                    logger.info("run %s: %s; trying again", self.run, error)
                    await asyncio.sleep(STORE_RETRY_S)
                    self._is_awake = True
            return over
        finally:
            self.close()

    def begin(self) -> None:
        """Take a new run's first step now, so that its creation need not wait until its task runs."""
        self._is_awake = True
        self.context.run(self._turn)

    def close(self) -> None:
        """Stop: nobody drives the run here any more, nor acts on the answer to an append that was sent."""
        self._sent, over = None, self._over
        self._takes_turns = False
        self._attempts.close(was_refused=over in (Exit.LOST, Exit.EXISTS), has_ended=over is Exit.ENDED)

    def _wake(self) -> None:
        """Note that something happened: a step is due, once the last append is answered. Everything that happens in one
        turn of the event loop goes into one step.
        """
        if not self._is_awake:
            self._is_awake = True
            if self._takes_turns and self._sent is None:
                self._loop.call_soon(self._turn, context=self.context)

    def _turn(self) -> None:
        """Take a step if one is due, in a turn of the event loop; a step that has to wait is left to the task."""
        if not self._takes_turns or not self._is_awake or self._sent is not None:
            return
        self._is_awake = False
        try:
            if self._may_have_mail or self.execution.state.tasks is not None or not self._decide():
                self._leave_to_task()
        except Exception as error:  # noqa: BLE001  raised again where the run is driven
            self._trouble = error
            self._leave_to_task()

    def _leave_to_task(self) -> None:
        self._takes_turns, self._is_awake = False, True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _step(self) -> None:
        """Take a step that waits: for mail before it, or until the run's children know that it ends."""
        if self._may_have_mail:
            await self._read_mail()
        state = self.execution.state
        if state.tasks is not None and self._draft.create is None:
            now = self._now()
            with apart():
                self._take_in(now)
            await self._expire(now)
        with apart():
            is_sent = self._decide()
        if not is_sent:
            await cancel_children(self._crew, state)
            self._end()

    def _decide(self) -> bool:
        """Take in what happened, decide, and send the append; `_told` goes on. Returns False if the run ends, and its
        children must be told first.
        """
        execution, attempts, crew, draft = self.execution, self._attempts, self._crew, self._draft
        state, now = execution.state, self._now()
        self._take_in(now)
        if crew.is_draining:
            attempts.withdraw()
        if execution.new:
            self._collect()
        while attempts.wanted:
            attempts.look(now)
            if execution.new:
                self._collect()
        if execution.ending is not None:
            if draft.says_more and any(type(p.event) is ev.ChildStarted for p in draft.entries):
                self._send(draft.appends("running", self._incarnation))  # they must be there to be stopped
            elif state.children:
                return False
            else:
                self._end()
        elif state.is_idle() and self._can_park(now):
            self._send(draft.appends("parked", None, closes=True, wake_at=state.next_due()))
        elif crew.is_draining and not attempts.are_left and draft.create is None:
            self._send(draft.appends("running", None, wake_at=now - DUE_MS))  # nothing is under way: another goes on
        elif draft.entries or draft.create is not None:
            self._send(draft.appends("running", self._incarnation))
        else:
            attempts.dispatch_ready()
        return True

    def _end(self) -> None:
        """Append the terminal event last. Mail that arrived meanwhile is recorded before it."""
        last = self.execution.last(self._now())
        if self.execution.raised is not None:
            self._crew.tracebacks.tell(self.execution.raised, f"the body of run {self.run}")
        self._send(self._draft.appends(STATUS_OF[type(last.event)], None, closes=True, last=last), last)

    def _send(self, appends: list[Append], last: Produced | None = None) -> None:
        """Append what is decided; `_told` goes on."""
        self._sent, self._last = appends[0], last
        self._crew.recorder.submit(appends, self._lane, self._told)

    def _told(self, answer: AppendResult | Exception) -> None:
        """Handle the answer to the append. While attempts are under way there may be nothing more to do."""
        sent, attempts = self._sent, self._attempts
        if sent is None:  # this driver is gone
            return
        try:
            if isinstance(answer, Exception):
                raise answer
            if answer.outcome is Outcome.MOVED:
                self._moved(sent, answer.mail)
                if sent.owner is None:
                    self._over = self._given_up(sent)
            else:
                self._over, self._is_awake = self._refused(answer), True
        except Exception as error:  # noqa: BLE001  raised again where the run is driven
            self._trouble = error
        self._sent = None
        if self._over is not None or self._trouble is not None:
            self._leave_to_task()
        elif self._is_awake or attempts.wanted or not attempts.under_way:
            self._is_awake = False
            self._wake()

    async def _read_mail(self) -> None:
        execution, clock = self.execution, self._crew.store.clock
        self._may_have_mail = False  # what comes meanwhile says so again
        try:
            letters = await self._crew.store.mailbox.read(self.run, after=execution.state.folded)
        except StoreUnavailable:
            self._may_have_mail = True
            raise
        with apart():
            for letter in letters:
                execution.mailed(mails.event_of(letter), clock.now())
        self._mail = max(self._mail, execution.state.folded)
        self._may_have_mail |= self._mail > execution.state.folded

    def _collect(self) -> None:
        """Take over the events that the kernel produced, and request the attempts that they ask for."""
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
        """Take in everything that has happened in this process, one item at a time, in the order in which it came."""
        execution = self.execution
        while self._outcomes:
            call, number, result, spent, emitted = self._outcomes.popleft()
            if isinstance(result, bytes):
                execution.completed(call, number, result, now, spent=spent, emitted=emitted)
            else:
                may_retry = partial(self._may_retry, call)
                execution.attempt_failed(call, number, result, now, spent=spent, may_retry=may_retry)
        if self._is_due:
            self._is_due = False
            execution.time_passed(now)

    async def _expire(self, now: int) -> None:
        """Expire the human tasks whose time is over, unless their answers came first: the mailbox decides."""
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

    def _given_up(self, append: Append) -> Exit:
        """Why the run is no longer driven here, after this durable append gave it up: nobody owns it any more."""
        crew, last = self._crew, self._last
        if last is not None:
            self.execution.close_log(last)
            self._draft.ended(append.status, last.at)
            if self.execution.state.parent is not None:
                crew.on_due(self.execution.state.parent)
            return Exit.ENDED
        if append.closes:
            return Exit.PARKED
        crew.stats.runs_handed_over += 1
        crew.on_due(self.run)
        return Exit.DRAINED

    def _refused(self, result: AppendResult) -> Exit | None:
        if result.outcome is Outcome.MAIL_ARRIVED:
            self.mail_came(max(result.mail, self.execution.state.folded + 1))
            return None
        if self._draft.create is not None and result.outcome in (Outcome.EXISTS, Outcome.CONFLICT):
            return Exit.EXISTS  # CONFLICT: the reply was lost, and what stands there is not ours
        self._crew.stats.runs_fenced += 1
        logger.info("run %s: %s at sequence %d, epoch %d", self.run, result.outcome.value, self.durable, self.epoch)
        return Exit.LOST

    def _moved(self, append: Append, mail: int) -> None:
        """Act on an append that is durable: now it may have effects."""
        draft, attempts = self._draft, self._attempts
        if draft.create is not None:
            attempts.created()
            if self.created is not None and not self.created.done():
                self.created.set_result(None)
        decided = draft.moved(append, self._last)
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
        else:
            self._is_awake = True  # what was to be there before the end is there

    def _weigh(self) -> None:
        before, self.size = self.size, self.execution.size
        self._weigh_at = self.execution.traffic + max(RUN_BYTES, self.size // WEIGHED_PARTS)
        if self.on_weighed is not None:
            self.on_weighed(self.size - before)

    def _resume(self) -> None:
        """After a replay, resume what was under way, under the same key and attempt."""
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
