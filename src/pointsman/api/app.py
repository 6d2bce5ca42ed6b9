"""The route table, and the one ASGI application over it: auth by route, then the handler, then errors as
problems. `routing.py` explains how to add a route.

Must not know a socket, nor how a run is stored. It is plain ASGI over Starlette's routes, without middleware.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Callable

from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pointsman.api import openapi, problems, views
from pointsman.api.agents import AgentRoutes
from pointsman.api.attempts import AttemptRoutes
from pointsman.api.auth import Guard
from pointsman.api.budgets import BudgetRoutes
from pointsman.api.errors import Internal, InvalidQuery, MethodNotAllowed, NotFound
from pointsman.api.events import EventRoutes
from pointsman.api.modes import ModeRoutes
from pointsman.api.request import ApiRequest, ClientGone
from pointsman.api.routing import ApiRoute, Declaration, declared_in, routes_of
from pointsman.api.runs import RunRoutes
from pointsman.api.settings import ApiSettings
from pointsman.api.status import StatusRoutes
from pointsman.api.tasks import TaskRoutes
from pointsman.api.waiting import Waiting
from pointsman.api.workers import WorkerRoutes
from pointsman.kernel.errors import Draining, InvalidCursor, PointsmanError
from pointsman.ports.agents import Agents, Attempts
from pointsman.ports.budgets import Budgets
from pointsman.ports.inbox import Inbox
from pointsman.ports.modes import Modes
from pointsman.ports.runs import Runs, Status
from pointsman.ports.workers import Workers

Observer = Callable[[str, str, int, float], None]
"""Called for each request with the route, method, status and seconds. The route is a path of the table, never the path
of the request.
"""

UNMATCHED = "unmatched"
CLIENT_GONE_STATUS = 499
# A separator or control character that is only there once decoded: no id has one, and two readers could
# differ on it.
_HIDDEN = re.compile(rb"%(?:2f|5c|[01][0-9a-f]|7f)", re.IGNORECASE)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

logger = logging.getLogger("pointsman.api")


HANDLERS = (
    RunRoutes,
    EventRoutes,
    StatusRoutes,
    AgentRoutes,
    AttemptRoutes,
    TaskRoutes,
    BudgetRoutes,
    ModeRoutes,
    WorkerRoutes,
)


def declared() -> list[Declaration]:
    """The declarations of all routes of a coordinator."""
    return [one for handlers in HANDLERS for one in declared_in(handlers)]


class Api:
    """The ASGI application of a coordinator.

    Args:
        agents, attempts, inbox, budgets, modes, workers: without one of them its routes do not exist.
    """

    def __init__(
        self,
        runs: Runs,
        status: Status,
        settings: ApiSettings,
        *,
        agents: Agents | None = None,
        attempts: Attempts | None = None,
        inbox: Inbox | None = None,
        budgets: Budgets | None = None,
        modes: Modes | None = None,
        workers: Workers | None = None,
        waiting: Waiting | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._settings = settings
        self._waiting = waiting or Waiting()
        self._guard = Guard(settings)
        self._observer = observer
        on_runs = RunRoutes(runs, self._waiting)
        self.on_events = EventRoutes(runs, on_runs, self._waiting)
        self.routes = [
            *routes_of(on_runs),
            *routes_of(self.on_events),
            *routes_of(StatusRoutes(status, self._waiting, self.document)),
            *(routes_of(AgentRoutes(agents)) if agents is not None else ()),
            *(routes_of(AttemptRoutes(attempts, on_runs.visible)) if attempts is not None else ()),
            *(routes_of(TaskRoutes(inbox)) if inbox is not None else ()),
            *(routes_of(BudgetRoutes(budgets)) if budgets is not None else ()),
            *(routes_of(ModeRoutes(modes)) if modes is not None else ()),
            *(routes_of(WorkerRoutes(workers, on_runs.visible, self._waiting.here)) if workers is not None else ()),
        ]
        self._document: bytes | None = None

    def document(self) -> bytes:
        """The OpenAPI document of these routes, as JSON."""
        if self._document is None:
            declared = [route.declared for route in self.routes]
            self._document = views.encode(openapi.describe(declared, self._settings))
        return self._document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served here")
        began = time.perf_counter()
        sender = _Sender(send)
        try:
            await self._serve(scope, receive, sender)
        finally:
            if self._observer is not None:
                route = scope.get("route")
                path = route.path if isinstance(route, ApiRoute) else UNMATCHED
                seconds = time.perf_counter() - began
                self._observer(path, scope["method"], sender.status or CLIENT_GONE_STATUS, seconds)

    async def _serve(self, scope: Scope, receive: Receive, send: _Sender) -> None:
        try:
            response = await self._answer(scope, receive)
            await response(scope, receive, send)
        except ClientGone:
            return
        except asyncio.CancelledError:
            # Cancelled by the server's stop, or because the client went: the one is answered, the other is
            # over.
            if not self._waiting.stopping.is_set() and not scope.get("state", {}).get("gone"):
                raise
            if not send.status:
                await problems.reply(Draining())(scope, receive, send)
        except PointsmanError as error:
            if send.status:
                raise
            instance = None
            if error.status >= 500 and error.status != 503:
                instance = _log(scope, error)
            told = InvalidQuery(f"cursor: {error}") if isinstance(error, InvalidCursor) else error
            await problems.reply(told, instance=instance)(scope, receive, send)
        except Exception as error:
            instance = _log(scope, error)
            if send.status:
                raise
            await problems.reply(Internal(), instance=instance)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> ASGIApp:
        request = ApiRequest(scope, receive, self._settings)
        route, allowed = self._match(scope)
        if route is not None:
            scope["route"] = route
            request.params = scope["path_params"]
        self._guard.check(request, public=route is not None and route.public)
        if route is None:
            raise MethodNotAllowed(allowed) if allowed else NotFound
        if route.declared.body is None:
            request.refuse_body()
        request.read_query(route.declared.parameters)
        return await route.handler(request)

    def _match(self, scope: Scope) -> tuple[ApiRoute | None, list[str]]:
        """The route object, or the methods that this path allows instead. Starlette's matching without its answers."""
        raw_path: bytes = scope.get("raw_path") or b""
        allowed: set[str] = set()
        if b"%" in raw_path and _HIDDEN.search(raw_path):
            return None, []
        for route in self.routes:
            match, child = route.matches(scope)
            if match is Match.FULL:
                scope.update(child)
                return route, []
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        return None, sorted(allowed)


class _Sender:
    """Wraps `send`, and keeps the status that was sent: 0 as long as nothing was sent."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _log(scope: Scope, error: Exception) -> str:
    """Log the cause under the request's id, and return the id as a URN. The client's own id is used if it is valid."""
    given = dict(scope["headers"]).get(b"pointsman-request-id", b"")
    request_id = given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
    logger.error("request %s failed: %s %r", request_id, scope["method"], scope["path"], exc_info=error)
    return f"urn:pointsman:request:{request_id}"
