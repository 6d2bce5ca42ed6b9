"""Workers in this process, at coordinators with their API: over one store, past any router."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import pytest

from pointsman import App, Context, Run
from pointsman.agents.agent import AgentError
from pointsman.agents.card import Health
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.policy.retry import Retry
from pointsman.node import Node, NodeSettings
from pointsman.serving import ClusterRefused, Worker
from pointsman.stores.memory import MemoryDatabase, MemoryStore

LIMIT_S = 30
LARGE = "x" * 900_000
T = TypeVar("T")


def cluster_app() -> App:
    app = App("studio")

    @app.workflow(version=1)
    async def film(run: Run, scene: str) -> Any:
        return await run.call("render", scene)

    @app.agent
    async def extra(scene: str) -> str:
        return scene

    return app


class Studio:
    """What a worker does, and what happened in it."""

    def __init__(self, **card: Any) -> None:
        self.app = App("gpu")
        self.contexts: list[Context] = []
        self.charges: list[str] = []
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.is_well = True
        fields = {"retry": Retry(attempts=3, base=0.01), "timeout": 20.0, **card}
        self.app.agent(name="render", health=self.check, **fields)(self.render)

    def check(self) -> None:
        if not self.is_well:
            raise RuntimeError("too hot")

    async def render(self, scene: str, ctx: Context) -> str:
        self.contexts.append(ctx)
        if scene == "waits":
            self.begun.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if scene == "charges":
            charged = await ctx.once("charge", lambda: self.charges.append(ctx.idempotency_key) or len(self.charges))
            ctx.spend(usd=0.25, tokens=3)
            if ctx.attempt == 1:
                raise AgentError("out of paper", kind="out_of_paper")
            return f"charge {charged}"
        if scene == "keeps":
            kept = await ctx.once("keep", lambda: LARGE)
            if ctx.attempt == 1:
                raise AgentError("made, and lost", kind="lost")
            return f"{len(kept)} kept"
        if scene == "unrecorded" and ctx.attempt == 1:
            raise StoreUnavailable("nothing can be recorded now")
        if scene == "odd" and ctx.attempt == 1:
            raise AgentError("come again three seconds ago", kind="rate_limited", retry_after=-3.0)
        return f"{scene} rendered"


@asynccontextmanager
async def node(database: MemoryDatabase, name: str = "one", **settings: Any) -> AsyncIterator[Node]:
    coordinator = CoordinatorSettings(name=name, **{"worker_silence_ms": 1_000, "drain_s": 20.0, **settings})
    running = Node(cluster_app(), MemoryStore(database), NodeSettings(coordinator=coordinator))
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


@asynccontextmanager
async def client(node: Node) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=f"http://{node.address}", trust_env=False, timeout=LIMIT_S + 5
    ) as http:  # fmt: skip
        yield http


@asynccontextmanager
async def working(studio: Studio, *nodes: Node, **options: Any) -> AsyncIterator[Worker]:
    """One that all of these coordinators know."""
    url = f"http://{nodes[0].address}"
    worker = Worker(studio.app, url=url, **{"concurrency": 2, "wait_s": 1.0, "drain_s": 0.0, **options})
    await worker.start()
    try:
        for one in nodes:
            await until(lambda one=one: _is_polling(one, worker))  # type: ignore[misc]
        yield worker
    finally:
        await worker.stop()


async def _is_polling(node: Node, worker: Worker) -> bool:
    desk = node.coordinator.desk
    assert desk is not None
    is_known = all(node.coordinator.directory.agent(name) is not None for name in worker.agents)
    return is_known and any(known.id == worker.id and known.is_polling for known in desk.workers())


async def until(probe: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(LIMIT_S):
        while not (found := await probe()):
            await asyncio.sleep(0.005)
    return found


async def within(waits: Awaitable[object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        await waits


async def started(http: httpx.AsyncClient, scene: str) -> str:
    response = await http.post("/v1/runs", json={"workflow": "film", "input": scene})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


async def result(http: httpx.AsyncClient, run: str) -> dict[str, Any]:
    return dict((await http.get(f"/v1/runs/{run}/result", params={"timeout": LIMIT_S})).json())


async def test_a_worker_registers_does_calls_and_leaves() -> None:
    studio = Studio()
    async with node(MemoryDatabase()) as one, client(one) as http:
        async with working(studio, one) as worker:
            listed = {agent["name"]: agent for agent in (await http.get("/v1/agents")).json()["agents"]}
            assert (listed["render"]["workers"], listed["render"]["card"]["transport"]) == (1, "pull")
            assert listed["extra"]["workers"] is None
            run = await started(http, "dawn")
            assert (await result(http, run))["output"] == "dawn rendered"
            (context,) = studio.contexts
            assert (context.run, context.call, context.attempt) == (run, "render#1", 1)
            metrics = (await http.get("/metrics")).text
            assert 'pointsman_workers_connected{agent="render"} 1' in metrics
            assert (await http.get("/v1/workers")).json()["workers"][0]["id"] == worker.id
        assert (await http.get("/v1/workers")).json()["workers"] == []
        assert (await http.get("/v1/agents/render")).json()["problem"] == "departed"


async def test_an_agents_registration_is_ended_by_the_last_of_its_workers() -> None:
    async with node(MemoryDatabase()) as one, client(one) as http, working(Studio(), one):
        async with working(Studio(), one):
            pass
        assert (await http.get("/v1/agents/render")).json()["problem"] is None


async def test_effects_and_spending_outlive_an_attempt_that_fails() -> None:
    studio = Studio()
    async with node(MemoryDatabase()) as one, client(one) as http, working(studio, one):
        run = await started(http, "charges")
        assert (await result(http, run))["output"] == "charge 1"
        assert [context.attempt for context in studio.contexts] == [1, 2]
        assert studio.charges == [f"{run}/1/render#1"]
        events = (await http.get(f"/v1/runs/{run}/events")).json()["events"]
        (failed,) = [event["data"] for event in events if event["type"] == "AttemptFailed"]
        assert failed["failure"]["kind"] == "out_of_paper"


async def test_a_large_input_and_a_large_effect_arrive() -> None:
    studio = Studio()
    async with node(MemoryDatabase()) as one, client(one) as http, working(studio, one):
        assert (await result(http, await started(http, LARGE)))["output"] == f"{LARGE} rendered"
        assert (await result(http, await started(http, "keeps")))["output"] == "900000 kept"
        assert [context.attempt for context in studio.contexts] == [1, 1, 2]


async def test_one_coordinator_is_enough_to_find_and_reach_the_others() -> None:
    studio, database = Studio(), MemoryDatabase()
    async with node(database) as one, node(database, "two") as two, client(two) as http, working(studio, one, two):
        assert (await result(http, await started(http, "dusk")))["output"] == "dusk rendered"


async def test_a_call_at_a_worker_outlives_the_coordinator_that_leaves_and_is_not_made_again() -> None:
    studio, database = Studio(), MemoryDatabase()
    async with node(database, "two") as two, client(two) as http:
        async with node(database) as one:
            await _begun_at(one, two, studio, http)
        # It left at once: it did not wait its 20 s for the worker.
        assert studio.contexts[0].epoch == 1
        assert not studio.cancelled.is_set()


async def _begun_at(one: Node, two: Node, studio: Studio, http: httpx.AsyncClient) -> None:
    async with client(one) as first, working(studio, two, one, drain_s=20.0):
        run = await started(first, "waits")
        await within(studio.begun.wait())
        began = asyncio.get_running_loop().time()
        await one.stop()
        assert asyncio.get_running_loop().time() - began < 10
        studio.gate.set()
        ended = await result(http, run)
        assert ended["output"] == "waits rendered"
        assert len(studio.contexts) == 1
        view = (await http.get(f"/v1/runs/{run}")).json()
        assert view["epoch"] == 2


async def test_a_result_that_comes_to_another_coordinator_reaches_the_owner() -> None:
    studio, database = Studio(), MemoryDatabase()
    async with node(database) as one, node(database, "two") as two, client(one) as http, client(two) as other:
        async with working(studio, one, two):
            run = await started(http, "waits")
            await within(studio.begun.wait())
            key = studio.contexts[0].idempotency_key
            said = {"key": key, "attempt": 1, "output": "by hand", "tokens": 2, "emitted": [{"event": "a.b"}]}
            path = f"/v1/runs/{run}/attempts/finish"
            assert (await other.post(path, json=said)).status_code == 200
            assert (await result(http, run))["output"] == "by hand"
            for asked in (http, other):
                late = await asked.post(path, json=said)
                assert (late.status_code, late.json()["code"]) == (409, "run_ended")
            await within(studio.cancelled.wait())
        assert one.coordinator.stats.workers.results_refused == 1
        assert two.coordinator.stats.workers.results_refused == 1


async def test_a_stale_attempt_is_refused_and_one_that_is_about_to_come_is_asked_for_again() -> None:
    studio, database = Studio(), MemoryDatabase()
    async with node(database) as one, client(one) as http:
        async with working(studio, one):
            run = await started(http, "waits")
            await within(studio.begun.wait())
        # Nobody is there: the call waits in line, and its attempt is the current one all the same.
        path, key = f"/v1/runs/{run}/attempts/finish", studio.contexts[0].idempotency_key
        stale = await http.post(path, json={"key": key, "attempt": 7, "output": 1})
        assert (stale.status_code, stale.json()["code"]) == (409, "attempt_over")
        other = await http.post(path, json={"key": f"{run}/1/render#2", "attempt": 1, "output": 1})
        assert (other.status_code, other.json()["code"]) == (409, "attempt_over")
        assert (await http.post(path, json={"key": key, "attempt": 1, "output": "it"})).status_code == 200
        assert (await result(http, run))["output"] == "it"
        unknown = await http.post("/v1/runs/none/attempts/finish", json={"key": "none/1/c", "attempt": 1, "output": 1})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_run")


async def test_a_failure_that_the_api_would_refuse_is_told_all_the_same() -> None:
    """Else the desk would never hear of it, and hand the attempt out for ever."""
    studio, database = Studio(), MemoryDatabase()
    async with node(database) as one, client(one) as http, working(studio, one):
        assert (await result(http, await started(http, "odd")))["output"] == "odd rendered"
    assert [context.attempt for context in studio.contexts] == [1, 2]


async def test_what_the_runtime_says_to_an_agent_is_no_crash_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """As in process: its kind is the error's own."""
    studio, database = Studio(), MemoryDatabase()
    async with node(database) as one, client(one) as http, working(studio, one):
        run = await started(http, "unrecorded")
        assert (await result(http, run))["output"] == "unrecorded rendered"
        events = (await http.get(f"/v1/runs/{run}/events")).json()["events"]
    (failed,) = [event["data"] for event in events if event["type"] == "AttemptFailed"]
    assert failed["failure"]["kind"] == "store_unavailable"
    assert not [record for record in caplog.records if "crashed" in record.getMessage()]


async def test_a_cancelled_run_stops_its_worker() -> None:
    studio = Studio()
    async with node(MemoryDatabase()) as one, client(one) as http, working(studio, one):
        run = await started(http, "waits")
        await within(studio.begun.wait())
        await http.post(f"/v1/runs/{run}/cancel")
        await within(studio.cancelled.wait())
        assert (await result(http, run))["status"] == "cancelled"


async def test_a_thread_keeps_its_place_until_it_returns() -> None:
    """A sync agent can't be stopped: what nobody waits for any more must not let a second one in beside it."""
    gate, begun = threading.Event(), threading.Event()
    app = App("gpu")

    @app.agent(timeout=0.3, retry=Retry(attempts=1))
    def render(scene: str) -> str:
        begun.set()
        assert gate.wait(LIMIT_S)
        return scene

    studio = Studio()
    studio.app = app
    try:
        async with node(MemoryDatabase()) as one, client(one) as http, working(studio, one, concurrency=1) as worker:
            run = await started(http, "slow")
            assert (await result(http, run))["failure"]["kind"] == "timeout"
            assert begun.is_set()
            await until(lambda: _holds_nothing(worker))
            assert worker.offer().free == 0
            gate.set()
            await until(lambda: _is_free(worker))
    finally:
        gate.set()


async def _holds_nothing(worker: Worker) -> bool:
    return not worker.offer().holding


async def _is_free(worker: Worker) -> bool:
    return worker.offer().free == 1


async def test_an_agent_that_is_not_well_gets_no_calls_here() -> None:
    quick = Health(every=0.01, misses=2, successes=2)
    hot, cool = Studio(health_policy=quick), Studio(health_policy=quick)
    async with node(MemoryDatabase()) as one, client(one) as http, working(hot, one), working(cool, one):
        hot.is_well = False
        desk = one.coordinator.desk
        assert desk is not None
        await until(lambda: _connected(one, 1))
        for _ in range(3):
            await result(http, await started(http, "noon"))
        assert len(cool.contexts) == 3
        hot.is_well = True
        await until(lambda: _connected(one, 2))


async def _connected(node: Node, wanted: int) -> bool:
    desk = node.coordinator.desk
    assert desk is not None
    return desk.connected().get("render") == wanted


async def test_an_app_of_both_sides_needs_no_registration_and_runs_nothing_itself() -> None:
    app = App("both")

    @app.agent(transport="pull")
    def render(scene: str) -> str:
        return f"{scene} by a worker"

    @app.agent
    async def near(scene: str) -> str:
        return f"{scene} by the coordinator"

    @app.workflow(version=1)
    async def film(run: Run, scene: str) -> list[str]:
        return [await run.call(render, scene), await run.call(near, scene)]

    studio = Studio()
    studio.app = app
    running = Node(app, MemoryStore(), NodeSettings())
    await running.start()
    try:
        async with client(running) as http, working(studio, running) as worker:
            assert list(worker.agents) == ["render"]
            ended = await result(http, await started(http, "rain"))
            assert ended["output"] == ["rain by a worker", "rain by the coordinator"]
            agent = (await http.get("/v1/agents/render")).json()
            assert (agent["registered"], agent["workers"], agent["problem"]) == (False, 1, None)
    finally:
        await running.stop()


async def test_a_worker_of_an_agent_that_the_coordinators_have_themselves_is_refused() -> None:
    app = App("gpu")

    @app.agent
    async def extra(scene: str) -> str:
        return scene

    async with node(MemoryDatabase()) as one:
        worker = Worker(app, url=f"http://{one.address}")
        with pytest.raises(ClusterRefused, match="agent_declared"):
            await worker.start()


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"wait_s": 0}, {"drain_s": -1}])
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    app = App("gpu")

    @app.agent
    async def extra(scene: str) -> str:
        return scene

    with pytest.raises(ValueError, match="concurrency="):
        Worker(app, url="http://127.0.0.1:1", **wrong)
    with pytest.raises(ValueError, match="no agents"):
        Worker(App("empty"), url="http://127.0.0.1:1")
