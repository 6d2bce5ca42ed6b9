"""Agents that do as a test says: what each call of them gives, raises, or how long it takes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import msgspec

from pointsman.agents.agent import Agent, AgentError
from pointsman.agents.context import Context
from pointsman.agents.directory import AgentDirectory
from pointsman.agents.signature import Signature
from pointsman.agents.transport import Transport
from pointsman.kernel.errors import InvalidInput, InvalidValue, UnknownAgent, ValueTooLarge

ENDED = "script_ended"


class ScriptEnded(AssertionError):
    """An agent was called more often than its script has steps."""


@dataclass(frozen=True)
class Timeout:
    """A step of a script: no answer ever comes, so the agent's own timeout ends the attempt."""


@dataclass(frozen=True)
class After:
    """A step of a script: `step` (a value, an exception, a function), after so many seconds of the environment."""

    seconds: float
    step: Any = None


@dataclass(frozen=True)
class Emits:
    """A step of a script: emits the event, then `step` (a value, an exception, another `Emits`). A function may give
    one."""

    event: str
    data: Any = None
    step: Any = None


@dataclass(frozen=True)
class AgentCall:
    """An attempt that an agent was asked to make.

    Attributes:
        input: plain data, as recorded.
        attempt: tries of this call, over all agents that had it, from 1.
    """

    agent: str
    input: Any
    run: str
    call: str
    attempt: int
    idempotency_key: str


Script = Sequence[Any] | Callable[..., Any]


class Scripts:
    """Which agents have one, how far each is, and every call that was made."""

    def __init__(self) -> None:
        self.calls: list[AgentCall] = []
        self.overrun: ScriptEnded | None = None
        self.outside = 0
        """Attempts under way of agents that have no script."""
        self._scripts: dict[str, list[Any] | Callable[..., Any]] = {}
        self._taken: dict[str, int] = {}

    def set(self, agent: str, script: Script, directory: AgentDirectory) -> None:
        """Raises: UnknownAgent. TypeError: it is neither a list of steps nor a function."""
        if directory.agent(agent) is None:
            known = ", ".join(sorted(one.name for one in directory.agents())) or "none"
            raise UnknownAgent(f"no agent is named {agent!r} in this app; there are {known}")
        if not callable(script) and (isinstance(script, str | bytes | Mapping) or not isinstance(script, Sequence)):
            raise TypeError(
                f"the script of {agent} is {script!r}: give a list of steps, one for each call, or a function"
                " that is called with the input each time"
            )
        self._scripts[agent] = script if callable(script) else list(script)
        self._taken[agent] = 0

    def has(self, agent: str) -> bool:
        return agent in self._scripts

    def next_step(self, agent: str) -> Any:
        """Raises AgentError: the script has no more steps; `overrun` says so to the test."""
        script = self._scripts[agent]
        if callable(script):
            return script
        taken = self._taken[agent] = self._taken[agent] + 1
        if taken <= len(script):
            return script[taken - 1]
        message = f"agent {agent!r} was called {taken} times, and its script has {len(script)} steps"
        self.overrun = self.overrun or ScriptEnded(message)
        raise AgentError(message, kind=ENDED, retryable=False)


class ScriptedTransport:
    """Before a transport of the coordinator: takes the calls of agents that have a script."""

    def __init__(self, inner: Transport, scripts: Scripts) -> None:
        self._inner = inner
        self._scripts = scripts

    async def close(self) -> None:
        """Idempotent."""
        await self._inner.close()

    async def call(self, agent: Agent, context: Context, data: bytes) -> bytes:
        """See `agents.transport.Transport`."""
        given = msgspec.json.decode(data)
        about = (context.run, context.call, context.attempt, context.idempotency_key)
        self._scripts.calls.append(AgentCall(agent.name, given, *about))
        if self._scripts.has(agent.name):
            return _encoded(agent, await _play(self._scripts.next_step(agent.name), agent, data, context))
        self._scripts.outside += 1
        try:
            return await self._inner.call(agent, context, data)
        finally:
            self._scripts.outside -= 1


async def _play(step: Any, agent: Agent, data: bytes, context: Context) -> Any:
    """What a step gives. Raises what it is, or raises."""
    if isinstance(step, After):
        await asyncio.sleep(step.seconds)
        return await _play(step.step, agent, data, context)
    if isinstance(step, Emits):
        context.emit(step.event, step.data)
        return await _play(step.step, agent, data, context)
    if isinstance(step, Timeout):
        await _never()
    if isinstance(step, BaseException):
        raise step
    if not callable(step):
        return step
    given = step(*_arguments(agent, data))
    given = await given if inspect.isawaitable(given) else given
    return await _play(given, agent, data, context) if isinstance(given, Emits) else given


async def _never() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


def _arguments(agent: Agent, data: bytes) -> list[Any]:
    """As the agent's own function would get them, but for its Context. Raises AgentError."""
    signature = agent.signature
    if not isinstance(signature, Signature):
        return [msgspec.json.decode(data)]
    try:
        return list(signature.decode_input(data).values())
    except InvalidInput as error:
        raise AgentError(str(error), kind="invalid_input") from error


def _encoded(agent: Agent, value: Any) -> bytes:
    """As of the agent itself: what does not fit its schema is a failure. Raises AgentError."""
    try:
        output = agent.signature.encode_output(value)
        agent.signature.check_output(output)
    except ValueTooLarge as error:
        raise AgentError(str(error), kind="output_too_large") from error
    except (InvalidInput, InvalidValue) as error:
        raise AgentError(str(error), kind="invalid_output") from error
    return output
