"""One attempt on a worker: made, held to its deadline, and its result kept until the run's owner has it.

Must not know how calls come.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import msgspec

from pointsman.agents.agent import Agent, AgentError
from pointsman.agents.context import Context
from pointsman.agents.transport import Transport
from pointsman.kernel.errors import PointsmanError, RunEnded, UnknownRun
from pointsman.kernel.policy.amounts import MICROS
from pointsman.kernel.policy.retry import SECONDS_MAX
from pointsman.kernel.values import faithful
from pointsman.ports.agents import AttemptOver
from pointsman.ports.workers import HandedCall, HeldCall
from pointsman.serving.attempt import RemoteAttempt
from pointsman.serving.cluster import Cluster, ClusterRefused, Coordinator
from pointsman.transports.http_answers import DETAIL_CHARS_MAX, kind_of

RESULT_S = 60.0
"""So long, at least, a result is brought again and again: its run may be on the way to another owner."""
OF_THE_BODY = frozenset({400, 413, 422})
"""HTTP statuses that refuse a request for what is in it."""

logger = logging.getLogger("pointsman.serving")


class Job:
    """One attempt on a worker. It is over when `run` returns, and its slot is free when `is_working` is False.

    Args:
        giver: the coordinator that handed it over, which most likely waits for the result.
        on_idle: called when the agent has stopped working on it.
    """

    def __init__(
        self, cluster: Cluster, giver: Coordinator, call: HandedCall, agent: Agent, on_idle: Callable[[], None]
    ) -> None:
        self.name = HeldCall(call.key, call.attempt)
        self.is_working = True
        self._cluster = cluster
        self._giver = giver
        self._call = call
        self._agent = agent
        self._on_idle = on_idle
        self._deadline = time.monotonic() + call.deadline_ms / 1000
        self._work: asyncio.Future[bytes] | None = None
        self._over = asyncio.Event()

    def drop(self) -> None:
        """Nobody waits for it any more, or another worker shall make it. A thread can't be stopped: it keeps its
        slot until it returns."""
        self._over.set()

    def when_idle(self, tell: Callable[[], object]) -> None:
        """Once the agent has stopped working on it, call that too."""
        assert self._work is not None
        self._work.add_done_callback(lambda _: tell())

    async def run(self, transport: Transport) -> None:
        """Make the attempt, and bring the result."""
        call = self._call
        bare = Context(
            call.run, call.call, call.attempt, call.key, call.epoch, self._deadline, tenant=call.tenant
        )  # fmt: skip
        self._runtime = runtime = RemoteAttempt(self._cluster, bare, self.drop)
        context = Context(
            call.run, call.call, call.attempt, call.key, call.epoch, self._deadline, call.tenant, runtime
        )  # fmt: skip
        runtime.start()
        self._work = work = asyncio.ensure_future(transport.call(self._agent, context, bytes(call.input)))
        work.add_done_callback(self._stopped)
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait(
                [work, over], timeout=self._deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            over.cancel()
            await runtime.stop()
            if not work.done() and self._agent.is_async:
                work.cancel()
        said = None if self._over.is_set() else self._said()
        if said is None:
            return
        spent = runtime.spent
        if spent:
            said |= {"usd": spent.usd_micros / MICROS, "tokens": spent.tokens}
        await self._bring(said)

    def _stopped(self, work: asyncio.Future[bytes]) -> None:
        self.is_working = False
        if not work.cancelled():
            work.exception()  # it is told below, or nobody asks
        self._on_idle()

    def _said(self) -> dict[str, Any] | None:
        """What came of it; None: its run has gone on without it."""
        work = self._work
        assert work is not None
        if not work.done():
            return _failure("timeout", "the deadline is over")
        try:
            return {"output": msgspec.Raw(work.result()), "emitted": self._runtime.emitted}
        except AgentError as error:
            kind = kind_of(error.kind) or "exception"
            after = error.retry_after
            after = None if after is None or math.isnan(after) else min(max(after, 0.0), SECONDS_MAX)
            return _failure(kind, str(error), retryable=error.is_retryable, retry_after_s=after)
        except (RunEnded, AttemptOver, UnknownRun):
            return None
        except asyncio.CancelledError:
            return _failure("cancelled", "the agent cancelled itself")
        except PointsmanError as error:  # what the runtime said to the agent, such as that nothing can be recorded now
            return _failure(error.code, faithful(error), retryable=error.retryable)
        except Exception as error:
            logger.exception("agent %s crashed at %s", self._agent.name, self._call.key)
            return _failure("exception", f"{type(error).__name__}: {faithful(error)}")

    async def _bring(self, said: dict[str, Any], *, is_refusal: bool = False) -> None:
        """Until the run's owner has it. One that is refused for what it is (too large, say) is told as a failure: else
        nobody would know that the attempt is over."""
        body = {"key": self._call.key, "attempt": self._call.attempt, **said}
        try:
            await self._tell(body)
        except PointsmanError as error:
            logger.warning("the result of %s, attempt %d: %s", self._call.key, self._call.attempt, error)
            if _is_for_what_it_is(error) and not is_refusal:
                refused = f"the coordinator refused the result: {faithful(error)}"
                await self._bring(_failure("invalid_output", refused), is_refusal=True)

    async def _tell(self, body: dict[str, Any]) -> None:
        """The coordinator that gave the call; where that one can't take it, whichever can.

        Raises: what `Cluster.ask` does.
        """
        path = f"/v1/runs/{self._call.run}/attempts/finish"
        try:
            await self._cluster.ask_coordinator(self._giver, "POST", path, body=body)
        except (AttemptOver, RunEnded, UnknownRun):
            raise
        except PointsmanError as error:
            if _is_for_what_it_is(error):
                raise
            logger.info("attempt %s: %s; asking the others", self._call.key, error)
            until = max(self._deadline, time.monotonic() + RESULT_S)
            await self._cluster.ask("POST", path, body=body, until=until)


def _is_for_what_it_is(error: PointsmanError) -> bool:
    """Any other refusal says nothing of the result: it is the way there that failed."""
    return isinstance(error, ClusterRefused) and error.http_status in OF_THE_BODY


def _failure(kind: str, message: str, **more: Any) -> dict[str, Any]:
    return {"failure": {"kind": kind, "message": faithful(message, DETAIL_CHARS_MAX), **more}}
