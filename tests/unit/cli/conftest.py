"""A real coordinator with its HTTP API, on the memory store, in a thread of its own: the verbs block."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import typer.testing
from typer.testing import CliRunner, Result

from pointsman import AgentError, App, Breaker, Retry, Run, StartRun
from pointsman.api import ApiServer, ApiSettings
from pointsman.cli.main import app as everything
from pointsman.cli.runs.group import runs
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.coordinator.verbs.budgets import CoordinatorBudgets
from pointsman.coordinator.verbs.inbox import CoordinatorInbox
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.stores.memory import MemoryDatabase, MemoryStore

# Else every invocation makes all verbs anew.
typer.testing._get_command = functools.cache(typer.testing._get_command)

app = App("tests")
_failed: set[str] = set()
NEVER_OPENS = Breaker(calls_min=1_000_000)
"""All tests call the same agents; what one of them makes fail must not hold back another's calls, or its retries
(`retry_share`), nor change the mode (`errors_min`)."""


@app.agent(capabilities=["greet"])
async def greeter(name: str) -> str:
    return f"hello {name}"


@app.agent(retry=Retry(attempts=2, base=0.01), breaker=NEVER_OPENS)
async def flaky(name: str) -> str:
    if name not in _failed:
        _failed.add(name)
        raise AgentError("not yet")
    return "at last"


@app.agent(retry=Retry(attempts=1), breaker=NEVER_OPENS)
async def broken(name: str) -> str:
    raise AgentError(f"no \x1b[31m[bold]{name}[/bold]")


@app.workflow()
async def greet(run: Run, name: str) -> str:
    first = await run.call(greeter, name)
    return f"{first} {await run.call(flaky, run.id)}"


@app.workflow()
async def breaks(run: Run, name: str) -> str:
    return str(await run.call(broken, name))


@app.agent(retry=Retry(attempts=1), fallback=["broken"], capabilities=["price", "haggle"])
async def pricer(what: str) -> int:
    """Names a price."""
    raise AgentError(f"what is a {what}?", kind="refused", retryable=False)


@app.workflow()
async def quote(run: Run, what: str) -> int:
    return int(await run.call(pricer, what, person="What does it cost?"))


@app.workflow()
async def waits(run: Run) -> str:
    return str(await run.wait_for("go"))


async def _leave_stranded(database: MemoryDatabase) -> None:
    """The run `stranded-1`, of a workflow version that was deployed before."""
    past = App("past")
    past.workflow(name="gone")(waits.function)
    coordinator = past.coordinator(MemoryStore(database), CoordinatorSettings())
    await coordinator.start()
    await CoordinatorRuns(coordinator).start(StartRun("gone", b"null", id="stranded-1"))
    await coordinator.stop()


@dataclass
class Served:
    """Where the API is, and how to run `pointsman runs ...` (`invoke`), or any verb (`cli`), against it."""

    url: str
    invoke: Callable[..., Result]

    def cli(self, *arguments: str, **more: str) -> Result:
        return command(everything, *arguments, **{"POINTSMAN_URL": self.url, **more})

    def json(self, *arguments: str) -> Any:
        """What a verb that succeeds says with --json."""
        result = self.cli(*arguments, "--json")
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)


def command(group: typer.Typer, *arguments: str, stdin: str | None = None, **environment: str) -> Result:
    return CliRunner().invoke(group, list(arguments), input=stdin, env=environment, prog_name="pointsman")


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    address: list[str] = []
    up, down = threading.Event(), threading.Event()

    async def serve() -> None:
        database = MemoryDatabase()
        await _leave_stranded(database)
        store = MemoryStore(database)
        coordinator = app.coordinator(store, CoordinatorSettings(retry_share=1.0, errors_min=1_000_000))
        await coordinator.start()
        api = ApiServer(
            CoordinatorRuns(coordinator), coordinator, ApiSettings(), agents=coordinator.agents,
            inbox=CoordinatorInbox(coordinator), budgets=CoordinatorBudgets(store.system, store.clock),
            modes=coordinator.modes,
        )  # fmt: skip
        await api.start()
        address.append(f"http://127.0.0.1:{api.port}")
        up.set()
        await asyncio.to_thread(down.wait)
        await api.stop()
        await coordinator.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="api")
    thread.start()
    assert up.wait(10)
    yield Served(
        address[0],
        lambda *arguments, **more: command(runs, *arguments, **{"POINTSMAN_URL": address[0], **more}),
    )
    down.set()
    thread.join(10)
