"""An app's agents as an ASGI application that answers the protocol of `docs/howto/http-agents.md`.

    POST /agents/{name}          one attempt
    GET  /agents/{name}/health   the agent's own check; 503 when it is not well. Public
    GET  /health                 is the process alive? Public

Must not know sockets, nor who registered it where.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable

import msgspec
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from pointsman.agents.agent import Agent, AgentError
from pointsman.agents.context import Context
from pointsman.api.auth import Guard
from pointsman.api.body import AnyBody
from pointsman.api.parameters import PathId
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest, ClientGone
from pointsman.api.routing import route, routes_of
from pointsman.api.settings import ApiSettings
from pointsman.api.waiting import Waiting
from pointsman.app import App
from pointsman.kernel.errors import PointsmanError, RunEnded, UnknownRun
from pointsman.kernel.policy.amounts import MICROS, Amount
from pointsman.kernel.values import faithful
from pointsman.ports.agents import AttemptOver
from pointsman.serving.attempt import RemoteAttempt, read_context
from pointsman.serving.cluster import Cluster
from pointsman.transports import http_headers as names
from pointsman.transports.local import LocalTransport

STATUS_OF_KIND = {
    "invalid_input": 422, "context_overflow": 413, "refused": 403, "rate_limited": 429, "overloaded": 503,
}  # fmt: skip
"""Other kinds are 500."""
THREADS_MAX = 64
CALLBACKS_MAX = 16
"""Clusters that may call one server without its being told of them. The header is the caller's, so it is bounded."""

logger = logging.getLogger("pointsman.serving")


class _Problem(msgspec.Struct, omit_defaults=True):
    type: str
    title: str
    status: int
    code: str
    detail: str
    retryable: bool | None = None


NAME = PathId("name", "The agent's name.")
INPUT = AnyBody(default=b"")


class AgentApp:
    """Serves an app's agents over HTTP, as an ASGI application.

    Args:
        cluster: whose API records what agents say; None: the one that a request names in Pointsman-Callback, without a
            token: whoever may call an agent must not learn the cluster's.
        waiting: the requests under way; ended when the server stops.
    """

    def __init__(self, app: App, settings: ApiSettings, waiting: Waiting, *, cluster: Cluster | None = None) -> None:
        self._agents = {agent.name: agent for agent in app.directory.agents() if agent.function is not None}
        self._settings = settings
        self._guard = Guard(settings)
        self._waiting = waiting
        self._cluster = cluster
        self._called_back: dict[str, Cluster] = {}
        self._transport = LocalTransport(threads_max=THREADS_MAX)
        self.routes = list(routes_of(self))

    async def close(self) -> None:
        await self._transport.close()
        for cluster in self._called_back.values():
            await cluster.close()
        self._called_back.clear()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._answer(scope, receive)
        except ClientGone:
            return
        except asyncio.CancelledError:
            # By the server's stop, or by the client that went: only the first is there to be answered.
            if scope.get("state", {}).get("gone"):
                return
            if not self._waiting.stopping.is_set():
                raise
            reply = _problem(503, "overloaded", "this server is leaving")
        except PointsmanError as error:
            # Of the request itself; its code is no kind of failure.
            kind = {413: "context_overflow", 408: "overloaded", 503: "overloaded"}.get(error.status, "refused")
            reply = _problem(error.status, kind, str(error))
        await reply(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        request = ApiRequest(scope, receive, self._settings)
        for served in self.routes:
            match, child = served.matches(scope)
            if match is Match.FULL:
                scope.update(child)
                request.params = scope["path_params"]
                self._guard.check(request, public=served.public)
                request.read_query(served.declared.parameters)
                return await _handled(served.handler, request)
        self._guard.check(request, public=False)
        return _problem(404, "refused", f"nothing is served at {scope['path']}")

    # -- an attempt ------------------------------------------------------------------------------------------------

    @route("call_agent", "POST", "/agents/{name}", "One attempt", parameters=(NAME,), body=INPUT)
    async def _call(self, request: ApiRequest) -> Reply:
        agent = self._agents.get(request.params["name"])
        if agent is None:
            return _problem(404, "refused", f"no agent {request.params['name']!r} is served here")
        data = await INPUT.read(request)
        task = asyncio.current_task()
        assert task is not None
        try:
            context = read_context(
                request.headers, lambda bare: RemoteAttempt(self._cluster_of(request), bare, task.cancel)
            )
        except ValueError as error:
            return _problem(400, "refused", str(error))
        runtime = context.runtime
        assert isinstance(runtime, RemoteAttempt)
        runtime.start()
        try:
            with self._waiting.here(request.scope):
                return await self._attempt(agent, context, data, runtime)
        finally:
            await runtime.stop()

    async def _attempt(self, agent: Agent, context: Context, data: bytes, runtime: RemoteAttempt) -> Reply:
        limit = asyncio.timeout(context.deadline - time.monotonic())
        try:
            async with limit:
                output = await self._transport.call(agent, context, data)
            return _outcome(output, runtime)
        except AgentError as error:
            status = STATUS_OF_KIND.get(error.kind, 500)
            return _problem(status, error.kind, str(error), error.is_retryable, error.retry_after, runtime.spent)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not runtime.is_given_up or self._waiting.stopping.is_set():
                raise
            task.uncancel()
            return _problem(409, "refused", "nobody waits for this attempt any more", spent=runtime.spent)
        except (RunEnded, AttemptOver, UnknownRun) as error:
            return _problem(409, "refused", str(error), spent=runtime.spent)
        except PointsmanError as error:  # what the runtime said to the agent, such as that nothing can be recorded now
            return _problem(500, error.code, faithful(error), error.retryable, spent=runtime.spent)
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                return _problem(504, "exception", "the deadline is over", spent=runtime.spent)
            logger.exception("agent %s crashed at %s", agent.name, context.idempotency_key)
            return _problem(500, "exception", f"{type(error).__name__}: {faithful(error)}", spent=runtime.spent)

    def _cluster_of(self, request: ApiRequest) -> Cluster | None:
        if self._cluster is not None:
            return self._cluster
        url = request.headers.get(names.CALLBACK.lower().encode())
        if url is None:
            return None
        text = url.decode("latin-1")
        if text not in self._called_back and len(self._called_back) >= CALLBACKS_MAX:
            raise ValueError(f"{names.CALLBACK}: this server has been given too many of them")
        return self._called_back.setdefault(text, Cluster(text))

    # -- health ----------------------------------------------------------------------------------------------------

    @route("get_health", "GET", "/health", "Is the process alive?", public=True)
    async def _health(self, _request: ApiRequest) -> Reply:
        return Reply(200, b'{"status":"alive"}')

    @route("get_agent_health", "GET", "/agents/{name}/health", "Is the agent well?", parameters=(NAME,), public=True)
    async def _agent_health(self, request: ApiRequest) -> Reply:
        agent = self._agents.get(request.params["name"])
        if agent is None:
            return _problem(404, "refused", f"no agent {request.params['name']!r} is served here")
        try:
            if agent.health_check is not None:
                said = agent.health_check()
                if inspect.isawaitable(said):
                    await said
        except Exception as error:  # noqa: BLE001  a check says by any exception that it is not well
            return _problem(503, "overloaded", f"{type(error).__name__}: {faithful(error)}")
        return Reply(200, b'{"status":"healthy"}')


async def _handled(handler: Callable[[ApiRequest], Awaitable[object]], request: ApiRequest) -> Reply:
    reply = await handler(request)
    assert isinstance(reply, Reply)
    return reply


def _outcome(output: bytes, attempt: RemoteAttempt) -> Reply:
    """The result, and what was emitted beside it, if anything."""
    if not attempt.emitted:
        return Reply(200, output, _spent(attempt.spent))
    body = msgspec.json.encode({"result": msgspec.Raw(output), "emitted": attempt.emitted})
    return Reply(200, body, _spent(attempt.spent), names.OUTCOME_JSON.encode())


def _spent(amount: Amount) -> list[tuple[bytes, bytes]]:
    if not amount:
        return []
    said = msgspec.json.encode({"usd": amount.usd_micros / MICROS, "tokens": amount.tokens})
    return [(names.SPENT.encode(), said)]


def _problem(
    status: int, kind: str, detail: str, retryable: bool | None = None, retry_after: float | None = None,
    spent: Amount | None = None,
) -> Reply:  # fmt: skip
    body = _Problem(f"urn:pointsman:failure:{kind}", kind, status, kind, faithful(detail, 1_000), retryable)
    headers = [] if spent is None else _spent(spent)
    if retry_after is not None:
        headers.append((names.RETRY_AFTER.encode(), b"%d" % math.ceil(retry_after)))
    return Reply(status, msgspec.json.encode(body), headers, names.PROBLEM_JSON.encode())
