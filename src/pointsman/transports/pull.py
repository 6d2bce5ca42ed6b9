"""Agents whose calls are fetched by workers: the calls of one coordinator wait here, in memory, until one comes.

What is lost with this process is only the place in line: the request is in the log, and the run's next owner lays the
same attempt out again under its key. Must not know HTTP, nor who owns a run.

Who has an attempt:
- A poll is answered with calls, and they are the worker's from then on. Its next poll says what it holds: what it does
  not hold never arrived, and waits again, first in line, for what is left of its `hold`; but what never arrives at
  workers with room for it has failed. What it once held and holds no more without a word has failed.
- A worker that holds an attempt which is laid out here (its run has a new owner) is not handed it: it is at it already.
  If its next poll does not say so again, it had brought the result to the owner before, which died with it: the attempt
  waits for a worker like any other, unless it must not be repeated.
- A worker without a poll for `silence_s` is lost, and what it holds from here has failed as `worker_lost`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import cast

import msgspec

from pointsman.agents.agent import Agent, AgentError
from pointsman.agents.context import Context
from pointsman.agents.transport import Pulled, check_emitted
from pointsman.kernel.errors import InvalidValue, ValueTooLarge
from pointsman.kernel.events import Emission
from pointsman.kernel.values import VALUE_BYTES_MAX, decode, faithful
from pointsman.ports.workers import AttemptResult, Handed, HandedCall, HeldCall, Poll, StalePoll, WorkerView
from pointsman.transports.http_answers import DETAIL_CHARS_MAX, kind_of, read_result
from pointsman.transports.http_headers import traceparent
from pointsman.transports.pull_line import HANDED_BYTES_MAX, Line, Session, Waiting

OVER_MAX = 10_000
"""Attempts that are over, of which it is remembered that a worker is to be told."""

TIMEOUT, WORKER_LOST = "timeout", "worker_lost"
"""The first is the only one of the runtime's own findings that a worker makes."""

logger = logging.getLogger("pointsman.transports.pull")


class PullTransport:
    """Implements `agents.transport.Transport` and `ports.workers.Desk`.

    Args:
        silence_s: a worker without a poll for so long is lost.
        queue_max: calls of one agent that may wait; the next fails at once as `no_worker`.
        misses_max: so many times a call may be handed to a worker with room for it and not arrive; then it has failed
            as `no_worker`.
        bytes_max: of one result, in bytes of JSON.
    """

    def __init__(self, *, silence_s: float, queue_max: int, misses_max: int, bytes_max: int = VALUE_BYTES_MAX) -> None:
        self._silence_s = silence_s
        self._queue_max = queue_max
        self._misses_max = misses_max
        self._bytes_max = bytes_max
        self.lost = 0
        self._line = Line()
        self._calls: dict[HeldCall, Waiting] = {}
        """All that are laid out here, in line or at a worker."""
        self._sessions: dict[str, Session] = {}
        self._over: OrderedDict[HeldCall, None] = OrderedDict()

    # -- the coordinator's side ---------------------------------------------------------------------------------------

    async def call(self, agent: Agent, context: Context, data: bytes) -> bytes:
        """See `agents.transport.Transport`. Raises AgentError also of the kinds no_worker and worker_lost."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(agent, context, data, cast(Pulled, context.runtime), loop.create_future())
        waiting.give_up_at = loop.time() + agent.described.hold
        name = waiting.name
        holder = next((session for session in self._sessions.values() if name in session.claimed), None)
        if holder is None and self._line.waiting(agent.name) >= self._queue_max:
            raise AgentError(
                f"{self._queue_max} calls of {agent.name} wait for a worker already (worker_queue_max)",
                kind="no_worker", retryable=False,
            )  # fmt: skip
        self._calls[name] = waiting
        self._over.pop(name, None)
        if holder is not None:
            self._hand_to(holder, waiting)
            waiting.is_claimed = True
            holder.wake()  # what it said may be old: is it still at it?
        else:
            self._line_up(waiting, first=False)
        try:
            result = await waiting.outcome
        finally:
            self._forget(waiting)
        return self._read(result, agent, context)

    async def close(self) -> None:
        """Workers are not told: they find out as they poll."""
        for session in self._sessions.values():
            session.stop_clock()
        self._sessions.clear()

    def _line_up(self, waiting: Waiting, *, first: bool) -> None:
        """In line, or at once to a worker that waits for such a call: the one with the least to do, then the one that
        waits longest."""
        agent = waiting.agent.name
        able = [session for session in self._sessions.values() if session.turn is not None and session.takes(agent)]
        if able:
            chosen = min(able, key=lambda session: (len(session.held), session.polled_at))
            self._hand_to(chosen, waiting)
            chosen.put(waiting)
            chosen.wake()
            return
        self._line.put(waiting, first=first)
        loop = asyncio.get_running_loop()
        waiting.alarm = loop.call_at(waiting.give_up_at, self._expire, waiting)

    def _expire(self, waiting: Waiting) -> None:
        hold = waiting.agent.described.hold
        waiting.fail(AgentError(f"no worker took it within {hold:g} s", kind="no_worker", retryable=False))

    def _forget(self, waiting: Waiting) -> None:
        """It is over here. A worker that is at it is told, unless the run's next owner will want its result."""
        name = waiting.name
        if self._calls.get(name) is waiting:
            del self._calls[name]
        self._line.remove(waiting)
        session, waiting.holder = waiting.holder, None
        if waiting.runtime.goes_on_elsewhere:
            if session is not None and session.held.pop(name, None) is not None:
                session.claimed.add(name)
            return
        self._over[name] = None
        if len(self._over) > OVER_MAX:
            self._over.popitem(last=False)
        if session is not None and session.held.pop(name, None) is not None and waiting.outcome.cancelled():
            session.over.append(name)
            session.wake()

    def _read(self, result: AttemptResult, agent: Agent, context: Context) -> bytes:
        if result.usd is not None or result.tokens is not None:
            context.spend(usd=result.usd or 0.0, tokens=result.tokens or 0)
        failure = result.failure
        if failure is None:
            output = read_result(result.output, agent.signature, bytes_max=self._bytes_max)
            if result.emitted:
                self._emit(output, result.emitted, context)
            return output
        kind = failure.kind if failure.kind == TIMEOUT else kind_of(failure.kind) or "exception"
        raise AgentError(
            faithful(failure.message, DETAIL_CHARS_MAX),
            kind=kind,
            retryable=failure.retryable, retry_after=failure.retry_after_s,
        )  # fmt: skip

    def _emit(self, output: bytes, emitted: Sequence[Emission], context: Context) -> None:
        try:
            check_emitted(output, emitted, self._bytes_max)
            for emission in emitted:
                context.emit(emission.event, decode(bytes(emission.data)))
        except ValueTooLarge as error:
            raise AgentError(str(error), kind="output_too_large") from error
        except InvalidValue as error:
            raise AgentError(faithful(error), kind="invalid_output") from error

    # -- the workers' side --------------------------------------------------------------------------------------------

    async def poll(self, worker: str, poll: Poll, wait_s: float) -> Handed:
        """See `ports.workers.Desk`."""
        session = self._sessions.get(worker)
        if session is None:
            session = self._sessions[worker] = Session(worker)
            logger.info("worker %s is here for %s", worker, ", ".join(poll.agents))
        if poll.number < session.number:
            raise StalePoll
        self._heard(session, poll)
        handed = self._hand_over(session)
        if handed.calls or handed.over or wait_s <= 0:
            self._start_clock(session)
            return handed
        loop = asyncio.get_running_loop()
        session.turn = turn = loop.create_future()
        session.polled_at = loop.time()
        timer = loop.call_later(wait_s, _wake, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if session.turn is turn:  # nobody reads the answer any more
                session.turn = None
                self._start_clock(session)
                self._take_back(session)
            raise
        finally:
            timer.cancel()
        if session.turn is not turn:
            return Handed()  # a later poll has said anew what the worker holds: what comes now is for that one
        session.turn = None
        self._start_clock(session)
        return self._hand_over(session)

    def _heard(self, session: Session, poll: Poll) -> None:
        """The worker lives, and says what it holds."""
        session.stop_clock()
        session.wake()
        session.turn = None
        session.number, session.agents, session.free = poll.number, frozenset(poll.agents), poll.free
        holding = set(poll.holding)
        lost = [name for name in session.held if name not in holding]
        session.take()
        for name in reversed(lost):  # each goes to the front
            self._missed(session, session.held[name])
        session.claimed = holding.difference(session.held)
        for name in [name for name in dict.fromkeys(poll.holding) if name in session.claimed]:
            waiting = self._calls.get(name)
            if name in self._over or (waiting is not None and waiting.holder is not None):
                session.claimed.discard(name)
                session.over.append(name)
            elif waiting is not None:
                self._line.remove(waiting)
                self._hand_to(session, waiting)
        for name in holding & session.held.keys():
            session.held[name].is_confirmed = True

    def _missed(self, session: Session, waiting: Waiting) -> None:
        """Its worker does not hold it: it never came there, was over before it was laid out here, or was begun and
        dropped. Then the attempt has failed, and counts: handed out again it might be made for ever."""
        if waiting.is_confirmed or (waiting.is_claimed and not waiting.agent.idempotent):
            session.held.pop(waiting.name, None)
            waiting.fail(AgentError(f"worker {session.id} dropped it, and told no result", kind=WORKER_LOST))
            return
        if waiting.is_claimed:
            self._put_back(waiting, anew=True)
            return
        if session.free > 0:  # else it may have come, and found the place taken by another coordinator's call
            waiting.misses += 1
        if waiting.misses < self._misses_max:
            self._put_back(waiting, anew=False)
            return
        session.held.pop(waiting.name, None)
        waiting.fail(
            AgentError(
                f"it was handed to workers {waiting.misses} times, and never arrived (worker_misses_max)",
                kind="no_worker", retryable=False,
            )
        )  # fmt: skip

    def _hand_over(self, session: Session) -> Handed:
        """What is said to it now. Of calls that wait, a fair share: others that could take them may come any moment."""
        out = session.take()
        shares = {
            agent: -(-self._line.waiting(agent) // max(self._workers_of(agent), 1)) for agent in session.agents
        }  # fmt: skip
        size = sum(waiting.size for waiting in out)
        while len(out) < session.free and size < HANDED_BYTES_MAX:
            waiting = self._line.take([agent for agent, share in shares.items() if share > 0])
            if waiting is None:
                break
            shares[waiting.agent.name] -= 1
            self._hand_to(session, waiting)
            out.append(waiting)
            size += waiting.size
        session.free -= len(out)
        over, session.over = session.over, []
        return Handed(tuple(_handed(waiting) for waiting in out), tuple(over))

    def _hand_to(self, session: Session, waiting: Waiting) -> None:
        waiting.stop_alarm()
        waiting.holder, waiting.is_claimed, waiting.is_confirmed = session, False, False
        session.claimed.discard(waiting.name)
        session.held[waiting.name] = waiting
        waiting.seconds = waiting.runtime.taken()

    def _take_back(self, session: Session) -> None:
        """What it was to be handed did not reach it."""
        for waiting in reversed(session.take()):
            self._put_back(waiting, anew=False)

    def _put_back(self, waiting: Waiting, *, anew: bool) -> None:
        """It waits again, before all others. `anew`: its worker had it, so its time in line begins again."""
        session, waiting.holder = waiting.holder, None
        if session is not None:
            session.held.pop(waiting.name, None)
        if waiting.outcome.done() or self._calls.get(waiting.name) is not waiting:
            return
        waiting.runtime.given_back()
        now = asyncio.get_running_loop().time()
        if anew:
            waiting.give_up_at = now + waiting.agent.described.hold
        if now < waiting.give_up_at:
            self._line_up(waiting, first=True)
        else:
            self._expire(waiting)

    def _workers_of(self, agent: str) -> int:
        return sum(agent in session.agents for session in self._sessions.values())

    # -- silence ------------------------------------------------------------------------------------------------------

    def _start_clock(self, session: Session) -> None:
        """It has no poll here: it is lost, unless it comes again soon."""
        session.stop_clock()
        session.clock = asyncio.get_running_loop().call_later(self._silence_s, self._lose, session)

    def _lose(self, session: Session) -> None:
        held = list(session.held.values())
        logger.warning("worker %s fell silent, with %d calls", session.id, len(held))
        self.lost += 1
        self._end(session)
        for waiting in held:
            waiting.fail(
                AgentError(f"worker {session.id} died, or was not heard of for {self._silence_s:g} s", kind=WORKER_LOST)
            )

    def _end(self, session: Session) -> None:
        session.stop_clock()
        session.wake()
        session.turn = None  # its poll is answered with nothing
        if self._sessions.get(session.id) is session:
            del self._sessions[session.id]
        self._take_back(session)

    # -- verbs --------------------------------------------------------------------------------------------------------

    def leave(self, worker: str) -> bool:
        """See `ports.workers.Desk`."""
        session = self._sessions.get(worker)
        if session is None:
            return False
        self._end(session)
        for waiting in reversed(list(session.held.values())):
            if waiting.agent.idempotent:
                self._put_back(waiting, anew=waiting.is_claimed or waiting.is_confirmed)
            else:
                waiting.fail(AgentError(f"worker {worker} left in the middle of it", kind=WORKER_LOST))
        return True

    def settle(self, key: str, attempt: int, result: AttemptResult) -> bool:
        """See `ports.workers.Desk`."""
        waiting = self._calls.get(HeldCall(key, attempt))
        return waiting is not None and waiting.settle(result)

    def workers(self) -> Sequence[WorkerView]:
        """See `ports.workers.Desk`."""
        return [
            WorkerView(
                session.id, tuple(sorted(session.agents)), session.free, len(session.held), session.turn is not None
            )
            for session in self._sessions.values()
        ]

    def waiting(self) -> Mapping[str, int]:
        """See `ports.workers.Desk`."""
        return self._line.lengths()

    def connected(self) -> Mapping[str, int]:
        """See `ports.workers.Desk`."""
        agents = {agent for session in self._sessions.values() for agent in session.agents}
        return {agent: self._workers_of(agent) for agent in sorted(agents)}


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _handed(waiting: Waiting) -> HandedCall:
    context = waiting.context
    return HandedCall(
        waiting.agent.name, context.run, context.call, context.idempotency_key, context.attempt, context.epoch,
        context.tenant, round(waiting.seconds * 1000), traceparent(context), msgspec.Raw(waiting.data),
    )  # fmt: skip
