"""Agents in this process: a coroutine in the coordinator's loop, or a function in a thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pointsman.agents.agent import Agent, AgentError
from pointsman.agents.context import Context
from pointsman.agents.signature import Signature
from pointsman.agents.transport import check_emitted
from pointsman.kernel.errors import InvalidInput, InvalidValue, ValueTooLarge


class LocalTransport:
    """Implements `agents.transport.Transport` for functions of the app.

    Args:
        threads_max: sync agents that run at the same time.
    """

    def __init__(self, *, threads_max: int) -> None:
        self._threads_max = threads_max
        self._threads: ThreadPoolExecutor | None = None

    async def close(self) -> None:
        """Threads can't be stopped: those at work are left alone."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def call(self, agent: Agent, context: Context, data: bytes) -> bytes:
        """See `agents.transport.Transport`."""
        signature, function = agent.signature, agent.function
        assert isinstance(signature, Signature) and function is not None  # noqa: PT018
        try:
            arguments = signature.decode_input(data)
        except InvalidInput as error:
            raise AgentError(str(error), kind="invalid_input") from error
        if signature.given is not None:
            arguments[signature.given] = context
        value = await (function(**arguments) if agent.is_async else self._in_thread(agent, arguments))
        try:
            output = signature.encode_output(value)
            signature.check_output(output)
            if context.runtime is not None and context.runtime.emitted:
                check_emitted(output, context.runtime.emitted, signature.bytes_max)
        except ValueTooLarge as error:
            raise AgentError(str(error), kind="output_too_large") from error
        except (InvalidInput, InvalidValue) as error:
            raise AgentError(str(error), kind="invalid_output") from error
        return output

    async def _in_thread(self, agent: Agent, arguments: dict[str, Any]) -> Any:
        def work() -> Any:
            try:
                return agent(**arguments)
            except StopIteration as error:  # of a `next(...)`: no future takes one, and the call would never end
                raise RuntimeError("the agent raised StopIteration") from error

        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._threads_max, thread_name_prefix="agent")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
