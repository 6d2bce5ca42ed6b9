"""Supervised routing: one agent decides, turn by turn, which agent does what next, until it says that the work is done.

The supervisor sees the request and all turns so far. Its decisions are results of calls, so each decision and its
reason are in the log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pointsman.kernel.errors import CallError, InvalidValue, LoopDetected
from pointsman.kernel.guard import LoopGuard
from pointsman.kernel.run import Run
from pointsman.kernel.values import encode

TURNS_MAX = 10
REPEATS_MAX = 2


@dataclass(frozen=True)
class Turn:
    """What one agent was given, and what came of it.

    Attributes:
        error: why there is no result; empty: there is one.
    """

    agent: str
    input: Any = None
    result: Any = None
    error: str = ""


@dataclass(frozen=True)
class Board:
    """What a supervisor sees.

    Attributes:
        agents: whom it may choose.
        turns: so far, oldest first.
        turns_left: with none left, all that it can still do is to end.
    """

    request: Any
    agents: list[str]
    turns: list[Turn] = field(default_factory=list)
    turns_left: int = TURNS_MAX


@dataclass(frozen=True)
class Decision:
    """What a supervisor gives: its own model may have more fields, and may leave out any.

    Attributes:
        agent: who is next; None: it is done.
        input: for that agent: its argument, or an object with its arguments by name.
        result: of the whole, once it is done.
        why: for people.
    """

    agent: str | None = None
    input: Any = None
    result: Any = None
    why: str = ""


@dataclass(frozen=True)
class Supervised:
    """The outcome of supervised routing. `why`: the supervisor's reason to end."""

    result: Any
    turns: list[Turn]
    why: str


async def supervise(
    run: Run, supervisor: Any, request: Any, *, among: Sequence[Any], turns_max: int = TURNS_MAX,
    repeats_max: int = REPEATS_MAX,
) -> Supervised:  # fmt: skip
    """Let `supervisor` choose the next agent until it says that the work is done.

    If an agent fails, or the choice is not valid, the turn has an error: the supervisor sees it and decides what
    follows.

    Args:
        supervisor: an agent of a `Board` that returns a `Decision`, or something with its fields.
        among: the agents to choose from, or their names.
        turns_max: limit on calls of agents in all. repeats_max: limit on calls of one agent with the same input.

    Raises:
        LoopDetected: the supervisor wants more than that. CallError: the supervisor itself failed. InvalidValue: there
            is
            nobody to choose from, or a limit is under 1.
    """
    names = [agent if isinstance(agent, str) else str(agent.name) for agent in among]
    if not names or turns_max < 1 or repeats_max < 1:
        raise InvalidValue(
            f"supervise(among={names}, turns_max={turns_max}, repeats_max={repeats_max}): 1 or more each"
        )
    guard, turns = LoopGuard(turns_max, repeats_max), list[Turn]()
    while True:
        board = Board(request, names, list(turns), turns_max - len(turns))
        decision = _read(await run.call(supervisor, board))
        if decision.agent is None:
            return Supervised(decision.result, turns, decision.why)
        data = encode(decision.input)
        try:
            guard.count(decision.agent, data)
        except LoopDetected as error:
            path = " → ".join([*(turn.agent for turn in turns[-5:]), decision.agent])
            raise LoopDetected(f"supervised: {error}; the last turns: {path}") from None
        turns.append(await _turn(run, decision, names, data))


async def _turn(run: Run, decision: Decision, names: Sequence[str], data: bytes) -> Turn:
    assert decision.agent is not None
    if decision.agent not in names:
        return Turn(decision.agent, decision.input, error=f"nobody of that name; there are {', '.join(names)}")
    try:
        result = await run.call(decision.agent, msgspec.Raw(data))
    except CallError as error:
        return Turn(decision.agent, decision.input, error=f"{error.kind}: {error}")
    return Turn(decision.agent, decision.input, result)


def _read(said: Any) -> Decision:
    """Of a model of the supervisor's own, what counts here."""
    names = Decision.__annotations__
    fields = said if isinstance(said, Mapping) else {name: getattr(said, name, None) for name in names}
    agent, why = fields.get("agent"), fields.get("why")
    return Decision(agent or None, fields.get("input"), fields.get("result"), str(why or ""))
