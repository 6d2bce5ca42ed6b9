"""What stands behind the Context of an attempt that came over HTTP: effects, heartbeats and spending go to the cluster.

Must not know how requests come, nor who answers them.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from pointsman.agents.context import Context
from pointsman.kernel.errors import PointsmanError, RunEnded, UnknownRun
from pointsman.kernel.events import Emission
from pointsman.kernel.policy.amounts import MICROS, NOTHING, Amount
from pointsman.ports.agents import AttemptOver
from pointsman.serving.cluster import Cluster, EffectMissing
from pointsman.transports import http_headers as names

REPORT_EVERY_S = 0.5
"""Heartbeats and spending are reported no more often; what an agent says in between is one report."""

logger = logging.getLogger("pointsman.serving")


class NoCallback(PointsmanError):
    """ctx.once has nowhere to record its effect: the cluster gave no Pointsman-Callback, and this server was started
    without the cluster's URL."""

    code = "no_callback"


class _Effect(msgspec.Struct):
    value: msgspec.Raw


def read_context(headers: Mapping[bytes, bytes], runtime: Callable[[Context], RemoteAttempt]) -> Context:
    """The context that a request's headers tell.

    Raises:
        ValueError: a header is missing, or has a value that it can't have.
    """

    def said(name: str) -> str:
        value = headers.get(name.lower().encode())
        if value is None:
            raise ValueError(f"the header {name} is missing")
        return names.decoded(value.decode("latin-1"))

    def number(name: str) -> int:
        text = said(name)
        if not (text.isascii() and text.isdigit() and len(text) <= 16):
            raise ValueError(f"the header {name} must be a whole number")
        return int(text)

    bare = Context(
        run=said(names.RUN),
        call=said(names.CALL),
        attempt=number(names.ATTEMPT),
        idempotency_key=said(names.IDEMPOTENCY_KEY),
        epoch=number(names.EPOCH),
        deadline=time.monotonic() + number(names.DEADLINE) / 1000,
        tenant=said(names.TENANT),
    )
    return msgspec.structs.replace(bare, runtime=runtime(bare))


class RemoteAttempt:
    """Implements `agents.context.AttemptRuntime`. `heartbeat` and `spend` may be called in any thread.

    Args:
        cluster: None: there is nowhere to report to.
        give_up: called when the cluster says that nobody waits for the attempt any more.
    """

    def __init__(self, cluster: Cluster | None, context: Context, give_up: Callable[[], object]) -> None:
        self._cluster = cluster
        self._context = context
        self._give_up = give_up
        self.is_given_up = False
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._spent = NOTHING
        self.emitted: tuple[Emission, ...] = ()
        self._reported = NOTHING
        self._is_beating = False
        self._news = asyncio.Event()
        self._reporter: asyncio.Task[None] | None = None

    @property
    def spent(self) -> Amount:
        """All that the attempt used up so far."""
        return self._spent

    def start(self) -> None:
        if self._cluster is not None:
            self._reporter = asyncio.create_task(self._report_forever(self._cluster), name="report of an attempt")

    async def stop(self) -> None:
        """Report nothing more: the answer is under way, and has it all."""
        if self._reporter is not None:
            self._reporter.cancel()
            await asyncio.gather(self._reporter, return_exceptions=True)

    def heartbeat(self) -> None:
        self._is_beating = True
        self._loop.call_soon_threadsafe(self._news.set)

    def spend(self, amount: Amount) -> None:
        with self._lock:
            self._spent += amount
        self._loop.call_soon_threadsafe(self._news.set)

    def emit(self, emission: Emission) -> None:
        with self._lock:
            self.emitted += (emission,)

    async def find_effect(self, name: str) -> bytes | None:
        """See `AttemptRuntime`. Raises NoCallback."""
        try:
            return await self._effect("GET", name, None)
        except EffectMissing:
            return None

    async def record_effect(self, name: str, value: bytes) -> bytes:
        """See `AttemptRuntime`. Raises NoCallback, AttemptOver."""
        return await self._effect("PUT", name, value)

    async def _effect(self, method: str, name: str, value: bytes | None) -> bytes:
        if self._cluster is None:
            raise NoCallback
        context = self._context
        answer = await self._cluster.ask(
            method, f"/v1/runs/{context.run}/effects", body=value, until=context.deadline,
            params={"key": context.idempotency_key, "name": name},
        )  # fmt: skip
        return bytes(msgspec.json.decode(answer, type=_Effect).value)

    async def _report_forever(self, cluster: Cluster) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._report(cluster)
            except (AttemptOver, RunEnded, UnknownRun) as error:
                logger.info("attempt %s is given up: %s", self._context.idempotency_key, error)
                self.is_given_up = True
                self._give_up()
                return
            except PointsmanError as error:
                logger.warning("attempt %s could not report: %s", self._context.idempotency_key, error)
            await asyncio.sleep(REPORT_EVERY_S)

    async def _report(self, cluster: Cluster) -> None:
        context, spent = self._context, self._spent
        path = f"/v1/runs/{context.run}/attempts"
        about = {"key": context.idempotency_key, "attempt": context.attempt}
        if self._is_beating:
            self._is_beating = False
            await cluster.ask("POST", f"{path}/heartbeat", body=about, until=context.deadline)
        if spent != self._reported:
            body = {**about, "usd": spent.usd_micros / MICROS, "tokens": spent.tokens}
            await cluster.ask("POST", f"{path}/spend", body=body, until=context.deadline)
            self._reported = spent
