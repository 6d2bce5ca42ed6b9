"""A real coordinator with its API in a thread, a server that answers by script, and both clients under one face."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import BaseModel

from pointsman import AgentError, App, AsyncClient, Client, Retry, Run
from pointsman.api import ApiServer, ApiSettings
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.coordinator.verbs.budgets import CoordinatorBudgets
from pointsman.coordinator.verbs.inbox import CoordinatorInbox
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.stores.memory import MemoryDatabase, MemoryStore

app = App("tests")


class Ticket(BaseModel):
    id: int
    text: str


@app.agent
async def priced(ticket: Ticket) -> int:
    """Names a price."""
    return len(ticket.text)


@app.agent(retry=Retry(attempts=1), fallback=[])
async def unsure(what: str) -> int:
    raise AgentError(f"what is a {what}?", kind="refused", retryable=False)


@app.workflow()
async def quote(run: Run, ticket: Ticket) -> Ticket:
    return Ticket(id=ticket.id, text=str(await run.call(priced, ticket)))


@app.workflow()
async def asks(run: Run, what: str) -> int:
    return int(await run.call(unsure, what, person="What does it cost?"))


@app.workflow()
async def fails(run: Run, what: str) -> int:
    return int(await run.call(unsure, what))


@app.workflow()
async def waits(run: Run) -> str:
    return str(await run.wait_for("go"))


async def _serve(up: Callable[[str], None], down: asyncio.Event) -> None:
    store = MemoryStore(MemoryDatabase())
    coordinator = app.coordinator(store, CoordinatorSettings(retry_share=1.0, errors_min=1_000_000))
    await coordinator.start()
    api = ApiServer(
        CoordinatorRuns(coordinator), coordinator, ApiSettings(), agents=coordinator.agents,
        inbox=CoordinatorInbox(coordinator), budgets=CoordinatorBudgets(store.system, store.clock),
    )  # fmt: skip
    await api.start()
    up(f"http://127.0.0.1:{api.port}")
    await down.wait()
    await api.stop()
    await coordinator.stop()


@contextmanager
def in_thread(serve: Callable[[Callable[[str], None], asyncio.Event], Any]) -> Iterator[str]:
    """What serves until it is told to stop, in a thread of its own; its URL."""
    address: list[str] = []
    ready = threading.Event()
    stop: list[Callable[[], object]] = []

    def up(url: str) -> None:
        address.append(url)
        ready.set()

    async def main() -> None:
        down = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(down.set))
        await serve(up, down)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(10)
    try:
        yield address[0]
    finally:
        stop[0]()
        thread.join(10)


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    with in_thread(_serve) as address:
        yield address


class Script:
    """What comes to a server, and what it answers, one after the other: bytes, then the connection closes. The last
    answer is given again and again."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []

    async def serve(self, up: Callable[[str], None], down: asyncio.Event) -> None:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        up(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await down.wait()
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        self.requests.append(head + await reader.readexactly(int(length or 0)))
        writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        await writer.drain()
        writer.close()


@contextmanager
def scripted(*answers: bytes) -> Iterator[tuple[Script, str]]:
    script = Script(*answers)
    with in_thread(script.serve) as address:
        yield script, address


class Blocking:
    """An `AsyncClient` whose verbs block: what they give is awaited, or collected."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*args, **kwargs)

    def __enter__(self) -> Blocking:
        self._run(self._client.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._client.__aexit__(None, None, None))
        self._runner.close()

    def __getattr__(self, name: str) -> Any:
        def verb(*args: Any, **kwargs: Any) -> Any:
            given = getattr(self._client, name)(*args, **kwargs)
            return self._run(given) if inspect.isawaitable(given) else self._items(given)

        return verb

    def _items(self, given: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._run(anext(given))
                except StopAsyncIteration:
                    return
        finally:
            self._run(given.aclose())

    def _run(self, what: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await what

        return self._runner.run(awaited())


@pytest.fixture(params=[Client, Blocking], ids=["blocking", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def client(kind: Any, url: str) -> Iterator[Any]:
    with kind(url) as made:
        yield made
