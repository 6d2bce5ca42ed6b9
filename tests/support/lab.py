"""Drive runs through the kernel alone: agents are a function, time is a number, and the run may leave memory at any
step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from pointsman import App, Workflow
from pointsman.kernel import events as ev
from pointsman.kernel.asking import OpenTask
from pointsman.kernel.execution import Execution
from pointsman.kernel.people import expired
from pointsman.kernel.policy.amounts import NOTHING, Amount, Budget
from pointsman.kernel.redriving import RedrivePlan, facts_of, plan, redriven
from pointsman.kernel.spending import refusal
from pointsman.kernel.state import PendingCall
from pointsman.kernel.upcast import read_event

Emitting = tuple[bytes, tuple[ev.Emission, ...]]
"""A result, and what its agent emitted."""
Answer = Callable[[PendingCall], bytes | ev.Failure | Emitting]
MOST = Amount(usd_micros=20_000, tokens=100, calls=1)
"""What is set aside for an attempt of a run that has a budget."""


class Lab:
    """One run of one workflow. `evict` says, by the number of steps taken, whether the run leaves memory before the
    next.
    """

    def __init__(
        self,
        app: App,
        workflow: Workflow,
        data: bytes = b"null",
        *,
        answer: Answer,
        signals: Sequence[tuple[str, bytes]] = (),
        evict: Callable[[int], bool] = lambda step: False,
        people: Sequence[bytes | ev.Failure | str | None] = (),
        budget: Budget | None = None,
        spent: Amount = NOTHING,
    ) -> None:
        self.app = app
        self.workflow = workflow
        self.log: list[ev.Recorded] = []
        self.now = 1_000_000
        self.steps = 0
        self._answer = answer
        self._signals = list(signals)
        self._mail = 0
        self._evict = evict
        self._people = list(people)
        self._spent = spent
        self.execution = Execution("run-1", workflow, app.directory)
        started, tail = ev.with_input(
            ev.RunStarted, data, workflow=workflow.name, workflow_version=workflow.version, seed="seed",
            budget=budget,
        )  # fmt: skip
        assert not tail or started.pieces
        self.execution.begin(started, data, self.now)
        self._append()

    def _append(self) -> None:
        new = self.execution.take()
        if self.execution.ending is not None:
            last = self.execution.last(self.now)
            self.execution.close_log(last)
            new.append(last)
        for produced in new:
            kind = type(produced.event).__name__
            self.log.append(ev.Recorded(len(self.log) + 1, produced.at, kind, produced.event.VERSION, produced.body))

    def _reload(self) -> None:
        self.execution.close()
        base = self.execution.state.base
        self.execution = Execution("run-1", self.workflow, self.app.directory)
        self.execution.replay(self.log[base - 1 :])
        assert not self.execution.new, "a replay of what was appended asks for nothing new"

    def repair(self, kept: int) -> None:
        """What stood behind event `kept` could not be trusted, and was moved away."""
        event = ev.LogRepaired(first=kept + 1, last=len(self.log), reason="event 3 is not what was appended")
        self.log[kept:] = [ev.Recorded(kept + 1, self.now, "LogRepaired", 1, ev.encode_event(event))]
        self.execution.close()
        self.execution = Execution("run-1", self.workflow, self.app.directory)
        self.execution.replay(self.log)
        self._append()

    def cancel(self, reason: str = "enough") -> None:
        self._mail += 1
        self.execution.mailed(ev.CancelRequested(mail=self._mail, reason=reason), self.now)
        self._append()

    def signal(self, name: str, payload: bytes = b"null") -> None:
        self._mail += 1
        key, value = str(self._mail), msgspec.Raw(payload)
        self.execution.mailed(ev.SignalReceived(name=name, key=key, mail=self._mail, payload=value), self.now)
        self._append()

    def redrive(self, *, has_fresh_key: bool = False) -> RedrivePlan:
        """As a coordinator redrives: another one loads the run."""
        base = self.execution.state.base
        found = plan("run-1", facts_of(self.log[base - 1 :]))
        event = redriven(found, {}, by="ann", reason="", has_fresh_key=has_fresh_key)
        body = ev.encode_event(event)
        self.log.append(ev.Recorded(len(self.log) + 1, self.now, "RunRedriven", event.VERSION, body))
        self.execution.close()
        self.execution = Execution("run-1", self.workflow, self.app.directory)
        self.execution.replay(self.log[base - 1 :])
        self._append()
        return found

    def step(self) -> bool:
        """Let one thing happen: an answer, a timer, a signal. False when nothing can."""
        if self.execution.state.is_ended:
            return False
        if self._evict(self.steps):
            self._reload()
        self.steps += 1
        self.now += 10
        state = self.execution.state
        calls = [call for call in state.calls.values() if call.retry_at is None and call.task is None]
        asked = list((state.tasks or {}).values())
        if calls:
            self._attempt(calls[self.steps % len(calls)])
        elif asked and self._people:
            self._ask(asked[0])
        elif self._signals:
            name, payload = self._signals.pop(0)
            self._mail += 1
            self.execution.mailed(
                ev.SignalReceived(name=name, key=str(self._mail), mail=self._mail, payload=msgspec.Raw(payload)),
                self.now,
            )
        elif (due := state.next_due()) is not None:
            self.now = max(self.now, due)
            self._pass_time()
        else:
            return False
        self._append()
        return True

    def _attempt(self, pending: PendingCall) -> None:
        execution = self.execution
        if execution.state.budget is not None and pending.reserved is None:
            trouble = refusal(execution.state, MOST, self.now)
            if trouble is not None:
                if not execution.reassign(pending.call, trouble, self.now):
                    execution.give_up(pending.call, trouble, self.now)
                return
            execution.reserve(pending.call, MOST, (), self.now)
            return
        result = self._answer(pending)
        if isinstance(result, ev.Failure):
            assert execution.attempt_failed(pending.call, pending.attempt, result, self.now, spent=self._spent)
        else:
            output, emitted = result if isinstance(result, tuple) else (result, ())
            assert execution.completed(
                pending.call, pending.attempt, output, self.now, spent=self._spent, emitted=emitted
            )

    def _pass_time(self) -> None:
        """As a coordinator does: what is due, then the mail that ends human tasks."""
        self.execution.time_passed(self.now)
        for task in expired(self.execution.state.tasks or {}, self.now):
            self._mail += 1
            over = ev.HumanTaskExpired(call=task.call, task=task.id, mail=self._mail, expired_at=self.now)
            assert self.execution.mailed(over, self.now)

    def _ask(self, task: OpenTask) -> None:
        """What a person does: an answer, a refusal, the name of somebody else; None: nothing, and time passes."""
        answer = self._people.pop(0)
        due = self.execution.state.next_due()
        if answer is None:
            assert due is not None
            self.now = max(self.now, due)
            self._pass_time()
            return
        self._mail += 1
        if isinstance(answer, str):
            given = ev.HumanTaskAssigned(call=task.call, task=task.id, mail=self._mail, assignee=answer, by="ann")
            self.execution.mailed(given, self.now)
            return
        declined = isinstance(answer, ev.Failure)
        said: dict[str, Any] = {"failure": answer} if declined else {"output": msgspec.Raw(answer)}
        proposed = self._proposed(task.id)
        said["edited"] = not declined and proposed is not None and proposed != answer
        self.execution.mailed(
            ev.HumanTaskAnswered(
                call=task.call, task=task.id, mail=self._mail, by="ann", answered_at=self.now - 5, **said
            ),
            self.now,
        )

    def answer(self, call: str, task: str, answer: bytes | ev.Failure) -> None:
        """A person's answer to this task, or that there is none; whether it is open or not."""
        self._mail += 1
        said: Any = {"failure": answer} if isinstance(answer, ev.Failure) else {"output": msgspec.Raw(answer)}
        given = ev.HumanTaskAnswered(call=call, task=task, mail=self._mail, by="bob", **said)
        assert self.execution.mailed(given, self.now)
        self._append()

    def _proposed(self, task: str) -> bytes | None:
        for row in self.log:
            event = read_event(row)
            if isinstance(event, ev.HumanTaskRequested) and event.task == task:
                return bytes(event.proposed) or None
        return None

    def record_effect(self, call: str, name: str, value: bytes) -> None:
        self._mail += 1
        effect = ev.EffectRecorded(call=call, name=name, mail=self._mail, value=msgspec.Raw(value))
        assert self.execution.mailed(effect, self.now)
        self._append()

    def run(self, steps_max: int = 500) -> Lab:
        for _ in range(steps_max):
            if not self.step():
                break
        return self

    @property
    def types(self) -> list[str]:
        return [row.type for row in self.log]

    @property
    def output(self) -> object:
        outcome = self.execution.state.outcome
        assert isinstance(outcome, ev.RunCompleted), outcome
        return msgspec.json.decode(outcome.output)

    @property
    def failure(self) -> ev.Failure:
        outcome = self.execution.state.outcome
        assert isinstance(outcome, ev.RunFailed), outcome
        return outcome.failure
