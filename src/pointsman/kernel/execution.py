"""The execution of one run: replays the log into the body, and continues the log from what the body does.

The law of replay, which is also the law of the live run:
1. A *cause* is delivered to the body, which then runs until every strand of it waits.
2. What the body asks for meanwhile are the *requests* of that cause. In the log they follow it directly, before the
   next cause. So in replay the recorded requests of a cause are known before it is delivered. Each request of the body
   must be among them, by call id and target, and none may be left over.
3. After the last recorded cause, whatever the body asks for that the log does not have is new.
4. *Notes* between them change the folded state and are invisible to the body.
There is one exception, the terminal event: mail that arrives while it is being appended is recorded before it.

An execution is a pure function of (program, events so far, now). It is an object only because a coroutine can't be
copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from pointsman.kernel import chain
from pointsman.kernel import events as ev
from pointsman.kernel.body import Body
from pointsman.kernel.checksum import beginning
from pointsman.kernel.errors import CorruptLog, NonDeterministicWorkflow
from pointsman.kernel.failing import after_attempt, without_agent
from pointsman.kernel.history import History, describe
from pointsman.kernel.people import escalations
from pointsman.kernel.policy.amounts import NOTHING, Amount
from pointsman.kernel.program import Directory, WorkflowSpec
from pointsman.kernel.requests import Produced
from pointsman.kernel.restarting import restarted
from pointsman.kernel.state import PendingCall, RunState

EVENTS_MAX = 50_000
"""Default limit of events in one generation of a run."""
RUN_BYTES = 4_500
"""In memory, of a run that waits, without its values (measured)."""
NOT_THERE = "nothing of the kind at this point"


class Execution:
    """Drives the body of one run and produces its events. Not re-entrant; owned by the owner of the run.

    Attributes:
        state: the folded state, including events that were produced and are not appended yet.
        checksum: of the last event in the log (see `checksum.py`); maintained by the caller that appends.
        warnings: discrepancies that a replay noticed and tolerated.
        new: events produced since the last `take`, in the order in which to append them.
        ending: the terminal event, from the end of the body until the log has the event (`close_log`).
    """

    def __init__(self, run: str, workflow: WorkflowSpec, directory: Directory, *, events_max: int = EVENTS_MAX) -> None:
        self.state = RunState(run=run)
        self.checksum = beginning(run)
        self.warnings: list[str] = []
        self.ending: ev.Event | None = None
        self._workflow = workflow
        self._directory = directory
        self._events_max = events_max
        self._body = Body(self.state, workflow, directory, events_max)
        self._requests = self._body.requests
        self.new = self._requests.new

    @property
    def raised(self) -> BaseException | None:
        """The exception that the author's code raised, if that is how the body ended."""
        return self._body.raised

    # -- the two ways in -----------------------------------------------------------------------------------------

    def begin(self, started: ev.RunStarted, data: bytes, now: int) -> None:
        """Begin a new run: its first event is `started`, with `data` as its input."""
        self._cause(started, now, data)

    def replay(self, recorded: Iterable[ev.Recorded]) -> None:
        """Rebuild a run from its log. New requests of the last cause, if any, are produced.

        Raises:
            NonDeterministicWorkflow, UnknownEvent, CorruptLog: the run can't be driven by this code.
        """
        try:
            self._replay(list(recorded))
        except KeyError as error:  # an event about a call that the log never made
            raise CorruptLog(
                f"run {self.state.run}: an event speaks of {error}, which the log does not have"
            ) from error

    def _replay(self, recorded: list[ev.Recorded]) -> None:
        requests = self._requests
        history = requests.history = History(self.state.run, recorded)
        if history.terminal is None:
            requests.copies = history.copies()
        was_cut = False
        for group in history.groups():
            requests.recorded, requests.given = group.requests, requests.given if was_cut else NOTHING
            was_cut = group.goes_on
            self.state.sequence = group.cause.sequence - 1
            self.state.evolve(group.cause.event, group.cause.at, group.cause.data)
            self._take_up(group.cause.event)
            self._body.deliver(group.cause.event, group.cause.at, group.cause.data)
            if not was_cut and (requests.recorded or (not group.is_last and self._is_ahead())):
                left = next(iter(requests.recorded.values()), None)
                made = requests.new[0].event if requests.new else self._body.ending
                raise NonDeterministicWorkflow(
                    describe(left) if left is not None else NOT_THERE, describe(made) if made is not None else NOT_THERE
                )
            for entry in group.entries:
                if entry.event is history.terminal:
                    self._check_progress()
                self.state.sequence = entry.sequence - 1
                self.state.evolve(entry.event, entry.at, entry.data)
            if not was_cut and self.state.outcome is None:
                self._check_progress()
        requests.history, requests.given = None, NOTHING
        if requests.typed is not None:
            self.state.kept = requests.typed.kept
        self.warnings = history.warnings
        if history.terminal is not None:
            self._check_end(history.terminal)
        self.state.sequence = history.sequence
        last_at = recorded[-1].at if recorded else 0
        # A cause may be older than the log's last event: than the redrive that brought the run back to it.
        requests.new[:] = [p if p.at >= last_at else msgspec.structs.replace(p, at=last_at) for p in requests.new]
        for produced in requests.new:
            self.state.evolve(produced.event, produced.at, produced.data)
        self._restart_if_asked()
        self.ending = self._body.ending

    def _check_progress(self) -> None:
        """Check progress in replay, as `_cause` does in the live run. New requests are not in the state yet."""
        if not self.state.calls and not self._requests.new:
            self._body.check_progress()

    def _is_ahead(self) -> bool:
        """Whether the body has asked for more than the log has."""
        return bool(self._requests.new) or self._body.restart is not None

    # -- what happens to a run -----------------------------------------------------------------------------------

    def completed(
        self, call: str, attempt: int, output: bytes, now: int, *, spent: Amount | None = None,
        emitted: tuple[ev.Emission, ...] = (),
    ) -> bool:  # fmt: skip
        """Record the result of an attempt. Returns False if nothing waits for the attempt any more."""
        pending = self._current(call, attempt)
        if pending is None:
            return False
        spent = self._settled(pending, spent, now)
        event = ev.CallCompleted(call=call, output=msgspec.Raw(output), attempt=attempt, spent=spent, emitted=emitted)
        self._cause(event, now)
        return True

    def attempt_failed(
        self, call: str, attempt: int, failure: ev.Failure, now: int, *, spent: Amount | None = None,
        may_retry: Callable[[], bool] = lambda: True,
    ) -> bool:  # fmt: skip
        """Record a failed attempt and let the policies decide what follows. Returns False if nothing waits for it any
        more.

        Args:
            spent: None: the outcome is unknown, and the attempt counts in full.
            may_retry: asked before a retry; False means that the agent has had so many retries already that another
                agent
                is the better choice.
        """
        pending = self._current(call, attempt)
        if pending is None:
            return False
        spent = self._settled(pending, spent, now)
        for event in after_attempt(pending, failure, spent, self._directory, self.state.seed, now, may_retry):
            self._record(event, now)
        return True

    # -- before an attempt --------------------------------------------------------------------------------------

    def reassign(self, call: str, failure: ev.Failure, now: int, *, begun: bool = False) -> bool:
        """Give the call to the next agent of its chain, because its agent can't take it. Returns False if no agent of
        the chain can.

        Args:
            begun: the attempt may have been made all the same, by a coordinator that died.
        """
        pending = self.state.calls[call]
        step = chain.next_agent(pending, failure, self._directory, attempt=pending.attempt + begun, now=now)
        if step is None:
            return False
        self._note(step, now)
        return True

    def give_up(self, call: str, failure: ev.Failure, now: int) -> None:
        """End a call that no agent can take: ask a person, use the default, or fail."""
        self._record(without_agent(self.state.calls[call], failure), now)

    def held(self, call: str, failure: ev.Failure, now: int) -> None:
        """Record, once, that the call waits for its agent."""
        if self.state.calls[call].held_at is None:
            self._note(ev.CallHeld(call=call, failure=failure), now)

    def admitted(self, call: str, now: int) -> None:
        """Record that the call no longer waits, if it was recorded that it does."""
        if self.state.calls[call].held_at is not None:
            self._note(ev.CallAdmitted(call=call), now)

    def reserve(self, call: str, amount: Amount, tranches: tuple[str, ...], now: int) -> None:
        """Reserve what the next attempt of the call may use up."""
        attempt = self.state.calls[call].attempt
        self._note(ev.CallReserved(call=call, attempt=attempt, amount=amount, tranches=tranches), now)

    # -- time and mail --------------------------------------------------------------------------------------------

    def time_passed(self, now: int) -> None:
        """Fire the timers that are due and start the attempts whose time has come, earliest first; then escalate human
        tasks.
        """
        due = [(when, call) for call, when in self.state.timers.items() if when <= now]
        due += [(p.retry_at, call) for call, p in self.state.calls.items() if p.retry_at and p.retry_at <= now]
        for _, call in sorted(due):
            if call in self.state.timers:
                self._cause(ev.TimerFired(call=call), now)
            elif (pending := self.state.calls.get(call)) is not None:
                self._note(ev.CallRetried(call=call, attempt=pending.attempt + 1), now)
        while self.state.tasks is not None and (late := escalations(self.state.tasks, now)):
            for event in late:
                self._note(event, now)

    def mailed(self, event: ev.Mailed, now: int) -> bool:
        """Fold one mail in. Returns False if it was folded before."""
        if event.mail <= self.state.folded or self.state.is_ended:
            return False
        self._record(event, now)
        return True

    def take(self) -> list[Produced]:
        """Take the events produced since the last call, in the order in which to append them."""
        new = self.new.copy()
        self.new.clear()
        return new

    def last(self, now: int) -> Produced:
        """The terminal event, to be appended after all other new events.

        It takes effect only when `close_log` says that it is in the log: mail may still come before it.
        """
        assert self.ending is not None
        return Produced(self.ending, max(now, self.state.last_at), ev.encode_event(self.ending))

    def close_log(self, last: Produced) -> None:
        """Record that the terminal event is in the log; nothing may follow it."""
        self.ending = self._body.ending = None
        self.state.evolve(last.event, last.at)

    def close(self) -> None:
        """Drop the run from memory. The author's `finally` blocks run, and nothing that they do counts."""
        self._body.close()

    @property
    def is_over(self) -> bool:
        """Whether the body has ended; `ending` says how."""
        return self.ending is not None

    @property
    def size(self) -> int:
        """Approximate bytes in memory, for the coordinator's memory limit.

        Counts the run itself, the values that its body was given in this generation, and what waits. Does not count
        what the body allocates for itself.
        """
        requests = self._requests
        payloads = requests.given_bytes + requests.copied_bytes + requests.signals.size
        payloads += sum(len(pending.data) for pending in self.state.calls.values())
        if self.state.kept is not None:
            payloads += len(self.state.kept.data)
        return RUN_BYTES + payloads

    @property
    def traffic(self) -> int:
        """Total bytes of the values that went in or out.

        It only grows and is cheap to read, and `size` changes by at most twice as much. So `size` need not be computed
        while this has hardly changed.
        """
        return self._requests.traffic

    # -- delivery --------------------------------------------------------------------------------------------------

    def _current(self, call: str, attempt: int) -> PendingCall | None:
        """The call, if this is the attempt that it waits for."""
        pending = self.state.calls.get(call)
        return pending if pending is not None and pending.attempt == attempt and pending.retry_at is None else None

    def _settled(self, pending: PendingCall, spent: Amount | None, now: int) -> Amount | None:
        """What to record of an attempt's spending: nothing if nothing was reserved and no cost was reported. Spending
        above the maximum is noted.
        """
        self._requests.traffic += len(pending.data)
        if spent is None:
            return None
        most = pending.reserved
        if most is None:
            agent = self._directory.agent(pending.target)
            most = agent.most if agent is not None else None
        if most is None:
            return spent if spent.usd_micros or spent.tokens else None
        if spent.exceeds(most):
            over = ev.CallOverspent(
                call=pending.call, attempt=pending.attempt, agent=pending.target, reserved=most, spent=spent
            )
            self._note(over, now)
        return spent

    def _record(self, event: ev.Event, now: int) -> None:
        if isinstance(event, ev.Cause):
            self._cause(event, now)
        else:
            self._note(event, now)

    def _note(self, event: ev.Event, now: int) -> None:
        self._requests.produce(event, max(now, self.state.last_at))

    def _cause(self, event: ev.Event, now: int, data: bytes = b"") -> None:
        """Record a live cause, then let the body answer it."""
        at = max(now, self.state.last_at)
        self._requests.produce(event, at, data)
        self._body.deliver(event, at, data)
        if self._requests.is_closed or not self.state.calls:
            self._take_stock()

    def _take_stock(self) -> None:
        """See whether the body has ended, wants to restart, or waits although no call is under way."""
        self._restart_if_asked()
        if not self.state.calls:
            self._body.check_progress()
        self.ending = self._body.ending

    def _restart_if_asked(self) -> None:
        """Begin the next generation if the body asked for it, with everything that carries over. A new generation may
        ask again at once, if it waits for a signal that is there already.
        """
        while self._body.restart is not None:
            data, before = self._body.restart, self._requests
            event = restarted(self.state, before.signals, data)
            self._body = Body(self.state, self._workflow, self._directory, self._events_max)
            self._requests = self._body.requests
            self._requests.new = before.new
            self._requests.traffic = before.traffic + before.given_bytes + before.copied_bytes
            self._requests.produce(event, self.state.last_at, data)
            self._take_up(event)
            self._body.deliver(event, self.state.last_at, data)

    def _take_up(self, event: ev.Event) -> None:
        """Carry the signals and the typed state of an earlier generation over to this one."""
        if isinstance(event, ev.RunRestarted):
            for signal in event.signals:
                self._requests.signals.keep(signal.name, bytes(signal.payload))
            if event.state is not None and self._requests.typed is not None:
                self._requests.typed.read(event.state, f"what generation {event.generation} began with")

    def _check_end(self, recorded: ev.Event) -> None:
        """Check that the body has ended as the log says: the log has its terminal event."""
        ending, self._body.ending = self._body.ending, None
        if type(ending) is not type(recorded):
            produced = describe(ending) if ending is not None else "something else, and waits"
            raise NonDeterministicWorkflow(describe(recorded), produced)
