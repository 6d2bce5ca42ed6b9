"""A user's own app under simulation: what is started of it, and what its author says must always hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from pointsman.agents.workflow import Workflow
from pointsman.app import App
from pointsman.kernel import events as ev
from pointsman.kernel import values
from pointsman.kernel.errors import InvalidValue, PointsmanError, UnknownWorkflow
from pointsman.testing.replay import replay_prefixes
from pointsman.testing.sim.evidence import Evidence
from pointsman.testing.sim.journal import Effect, Invocation
from pointsman.testing.sim.promises import input_of
from pointsman.testing.sim.scenario import Given, Invariant, Start

CANCELLED = 0.1
"""The share of runs that somebody cancels."""
FIELDS = frozenset(("workflow", "input", "signals", "answers"))


@dataclass(frozen=True)
class SimulatedRun:
    """A run as a schedule left it. Input and output are read from JSON; `failure` is the kind, `""` without one."""

    id: str
    workflow: str
    status: str
    input: Any
    output: Any
    failure: str
    events: Sequence[ev.Event]


@dataclass(frozen=True)
class Aftermath:
    """What an invariant is given: everything that happened in a schedule, after everything has ended.

    Attributes:
        effects: what agents did to the world outside (`effect`), as often as they did it.
        attempts: every start of an agent.
    """

    runs: Sequence[SimulatedRun]
    effects: Sequence[Effect]
    attempts: Sequence[Invocation]

    def effects_of(self, run: str, name: str) -> int:
        """How often this effect happened for a run: what comes again under its idempotency key is the same."""
        found = [one for one in self.effects if one.by.run == run and one.name == name]
        return len({one.key if one.key is not None else number for number, one in enumerate(found)})


Rule = Callable[[Aftermath], None]
R = TypeVar("R", bound=Rule)
_RULES: WeakKeyDictionary[App, list[Rule]] = WeakKeyDictionary()


def invariant(app: App) -> Callable[[R], R]:
    """Declare a function that must not raise AssertionError after any schedule of this app."""

    def declare(rule: R) -> R:
        _RULES.setdefault(app, []).append(rule)
        return rule

    return declare


def _as_invariant(rule: Rule) -> Invariant:
    def invariant(evidence: Evidence) -> Iterator[str]:
        try:
            rule(_aftermath(evidence))
        except AssertionError as error:
            yield str(error) or "an assertion does not hold"

    invariant.__name__ = getattr(rule, "__name__", "invariant")
    return invariant


def _aftermath(evidence: Evidence) -> Aftermath:
    runs: list[SimulatedRun] = []
    for run, head in evidence.heads.items():
        events = evidence.events(run)
        last = events[-1]
        runs.append(
            SimulatedRun(
                run, head.workflow, head.status, msgspec.json.decode(input_of(evidence, run)),
                msgspec.json.decode(last.output) if isinstance(last, ev.RunCompleted) else None,
                last.failure.kind if isinstance(last, ev.RunFailed) else "", events,
            )
        )  # fmt: skip
    return Aftermath(runs, evidence.effects, evidence.invocations)


# -- what is started -----------------------------------------------------------------------------------------------


def given(app: App, workflow: str | None, inputs: Sequence[str], *, command: str) -> Given:
    """A scenario of an app.

    Args:
        workflow: which one; the app's only one without.
        inputs: JSON; with `workflow` None also objects with `workflow`, `input`, `signals` (a list of `[name,
            payload]`) and `answers` (by question), one for each kind of run.

    Raises:
        UnknownWorkflow, InvalidValue, InvalidInput: with what to give.
    """
    known = {d.workflow for d in app.directory.definitions()}
    answers: dict[str, Any] = {}
    starts: list[Start] = []
    for text in inputs or ["null"]:
        data = values.decode(text.encode())
        fields = data if workflow is None and isinstance(data, dict) and data.keys() <= FIELDS and data else {}
        name = fields.get("workflow") or workflow or (next(iter(known)) if len(known) == 1 else "")
        found = app.directory.workflow(name, None)
        if not isinstance(found, Workflow):
            raise UnknownWorkflow(
                f"no workflow {name!r} in this app; give --workflow, one of {', '.join(sorted(known))}"
            )
        starts.append(_start(found, fields or {"input": data}))
        answers |= fields.get("answers", {})
    rules = [_as_invariant(rule) for rule in _RULES.get(app, ())]
    return Given(app, starts, answers, rules, command)


def _start(workflow: Workflow, fields: Mapping[str, Any]) -> Start:
    data = values.encode(fields.get("input"))
    workflow.signature.check_input(data)
    try:
        signals = tuple((str(name), values.encode(payload)) for name, payload in fields.get("signals", ()))
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"signals={json.dumps(fields['signals'])}: a list of [name, payload]") from error
    return Start(workflow.name, data, data, last=signals, cancelled=CANCELLED)


# -- in a process with other hashes ----------------------------------------------------------------------------------


def replay_elsewhere(app: App, histories: Mapping[str, Sequence[ev.Recorded]]) -> list[str]:
    """Replay histories of an app, in this process; what depends on the order of a set shows where that is another."""
    wrong: list[str] = []
    for run, rows in histories.items():
        try:
            replay_prefixes(app, run.partition(" ")[2], rows)
        except PointsmanError as error:
            wrong.append(f"replays_elsewhere: {run}, in a process with another PYTHONHASHSEED: {error}")
    return wrong
