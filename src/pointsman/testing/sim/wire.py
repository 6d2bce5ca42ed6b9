"""HTTP between simulated processes: requests that are lost, answers that are lost or late, connections that break.

The server's side is production's own ASGI application. What its server does beside that, telling a handler that waits
that its client is gone, is done here in the same way.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec

from pointsman.api.waiting import STATE_KEY
from pointsman.kernel.errors import StoreUnavailable
from pointsman.ports.agents import AttemptOver
from pointsman.serving.cluster import COORDINATOR_HEADER, Cluster, Coordinator
from pointsman.testing.sim.faulty import Trace
from pointsman.testing.sim.node import Node

URL = "http://cluster"
PASS_ON_S = 0.5
OK, OVER = 200, (404, 409)


class Nodes(Protocol):
    """Who can be asked."""

    @property
    def nodes(self) -> list[Node]: ...


@dataclass
class Link:
    """One process's way to the coordinators. Shares are between 0 and 1.

    Attributes:
        is_cut: nothing gets through.
    """

    lost: float = 0.0
    lost_answer: float = 0.0
    slow: float = 0.0
    is_cut: bool = False

    def heal(self) -> None:
        self.lost = self.lost_answer = self.slow = 0.0
        self.is_cut = False


class Exchange:
    """One request at a node, in the node's process, and its answer: status and body."""

    def __init__(self, node: Node, method: str, path: str, query: str, headers: Mapping[str, str], data: bytes) -> None:
        self.answer: asyncio.Future[tuple[int, bytes]] = node.loop.create_future()
        self._node = node
        self._data = data
        self._scope: dict[str, Any] = {
            "type": "http", "http_version": "1.1", "scheme": "http", "method": method, "path": path,
            "raw_path": path.encode(), "root_path": "", "query_string": query.encode(), "state": {},
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        self._status = 0
        node.exchanges[self] = None
        self._task = node.spawn(self._serve)

    async def _serve(self) -> None:
        node, said = self._node, bytearray()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": self._data, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._status = message["status"]
            else:
                said.extend(message.get("body", b""))

        try:
            await node.api(self._scope, receive, send)
        finally:
            node.exchanges.pop(self, None)
        if not self.answer.done():
            self.answer.set_result((self._status, bytes(said)))

    def hang_up(self) -> None:
        """The client is gone: a handler that waits is told, as production's server tells it."""
        if not self.answer.done():
            self.answer.cancel()
            self._node.run_soon(self._tell_gone)

    def _tell_gone(self) -> None:
        state = self._scope["state"]
        state["gone"] = True
        if (waiter := state.get(STATE_KEY)) is not None:
            waiter.cancel()

    def break_off(self) -> None:
        """The node has died."""
        if not self.answer.done():
            self.answer.set_exception(ConnectionResetError("connection reset"))


async def pass_on(node: Node | None, path: str, body: Mapping[str, Any]) -> None:
    """From one coordinator to another, as `node/peers.py` does it. Raises AttemptOver, StoreUnavailable."""
    await asyncio.sleep(0.001)
    if node is None or not node.is_reachable:
        raise StoreUnavailable("nobody is there")
    data = msgspec.json.encode(body)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(data))}
    exchange = Exchange(node, "POST", path, "", headers, data)
    try:
        async with asyncio.timeout(PASS_ON_S):
            status, _ = await exchange.answer
    except OSError as error:
        raise StoreUnavailable("it does not answer") from error
    finally:
        exchange.hang_up()
    if status in OVER:
        raise AttemptOver
    if status != OK:
        raise StoreUnavailable(f"it answers {status}")


class SimCluster(Cluster):
    """Production's, over simulated connections.

    Args:
        process: whose requests these are, by its name. link: its way to the nodes.
        has_router: its URL is that of a router, which sends a request to the coordinator that it is for; without one it
            is that of any coordinator, and those say that they are not the one.
    """

    def __init__(
        self, around: Nodes, process: str, link: Link, rng: random.Random, trace: Trace, *, has_router: bool
    ) -> None:
        super().__init__(URL)
        self._around = around
        self._process = process
        self._link = link
        self._rng = rng
        self._trace = trace
        self._has_router = has_router
        self._open: dict[Exchange, None] = {}

    def die(self) -> None:
        """The process has ended: its connections are closed."""
        for exchange in list(self._open):
            exchange.hang_up()

    async def _once(
        self, method: str, path: str, data: bytes | None, params: Mapping[str, str] | None, left_s: float,
        coordinator: Coordinator | None = None,
    ) -> tuple[int, bytes]:  # fmt: skip
        headers = {} if data is None else {"Content-Type": "application/json", "Content-Length": str(len(data))}
        if coordinator is not None:
            headers[COORDINATOR_HEADER] = coordinator.address
        async with asyncio.timeout(left_s):
            await asyncio.sleep(self._latency())
            node = self._reached(coordinator)
            if node is None or self._strikes("http_lost", self._link.lost, path):
                raise ConnectionResetError("no connection")
            exchange = Exchange(node, method, path, urlencode(params or {}), headers, data or b"")
            self._open[exchange] = None
            try:
                status, body = await exchange.answer
            finally:
                del self._open[exchange]
                exchange.hang_up()
            if self._link.is_cut or self._strikes("http_answer_lost", self._link.lost_answer, path):
                raise ConnectionResetError("no answer")
            await asyncio.sleep(self._latency())
        return status, body

    def _reached(self, coordinator: Coordinator | None) -> Node | None:
        nodes = [node for node in self._around.nodes if node.is_reachable]
        if self._link.is_cut or not nodes:
            return None
        if coordinator is None or not (self._has_router or coordinator.is_direct):
            return self._rng.choice(nodes)
        return next((node for node in nodes if node.name == coordinator.address), None)

    def _strikes(self, kind: str, share: float, what: str) -> bool:
        if not share or self._rng.random() >= share:
            return False
        self._trace.fault(self._process, kind, what)
        return True

    def _latency(self) -> float:
        if self._link.slow and self._rng.random() < self._link.slow:
            return 0.02 + self._rng.random() * 0.4
        return 0.0002 + self._rng.random() * 0.002
