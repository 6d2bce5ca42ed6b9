"""What a schedule's world is made of can be trusted: its clocks, its standby, its coverage, its stories."""

from __future__ import annotations

import asyncio
import contextvars
import os
import random
import time

import pytest

from pointsman.kernel.errors import StoreUnavailable
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import NewRun
from pointsman.testing.sim import coverage
from pointsman.testing.sim.clocks import SKEW_MAX_S, EstimatedClock, ProcessClocks, SimClock, skewed
from pointsman.testing.sim.database import Replica
from pointsman.testing.sim.faulty import Faults, Network, Trace
from pointsman.testing.sim.journal import effect
from pointsman.testing.sim.loop import PROCESS, Process, SimLoop
from pointsman.testing.sim.shape import PROFILES, draw
from pointsman.testing.sim.store import SimStore
from pointsman.testing.sim.story import story


@pytest.fixture
def loop():
    loop = SimLoop(random.Random(1))
    yield loop
    loop.close()


def test_each_process_has_a_wall_clock_that_is_wrong_in_its_own_way(loop):
    before = time.time, os.urandom
    process = Process("p")
    process.clocks = ProcessClocks(loop, random.Random(7))
    with skewed(loop, random.Random(1)):
        true = time.time()
        token = PROCESS.set(process)
        wrong = time.time()
        PROCESS.reset(token)
        assert 1 < abs(wrong - true) <= SKEW_MAX_S
        assert time.time_ns() == int(true * 1e9)
        first = os.urandom(8)
    with skewed(loop, random.Random(1)):
        assert os.urandom(8) == first
    assert (time.time, os.urandom) == before


def test_an_estimate_is_wrong_until_it_is_measured_and_says_how_early_it_was(loop):
    true, clocks = SimClock(loop), ProcessClocks(loop, random.Random(7))
    estimate = EstimatedClock(true, clocks)
    assert abs(estimate.now() - true.now()) > 1_000
    assert estimate.early_ms == 0, "before the first measurement nothing is dated by it"
    estimate = EstimatedClock(true, clocks)
    sent = estimate.monotonic()
    estimate.measured(true.now() + 40, sent, sent + 0.001)
    assert 35 <= estimate.now() - true.now() <= estimate.early_ms <= 41


def test_a_standby_has_what_it_had_and_leases_outlive_a_skip(loop):
    database = Replica(SimClock(loop))
    new = NewRun(workflow="w", version=1, build="", bucket=0, digest="d")
    database.insert("kept", new, 1)
    standby = database.state()
    database.insert("lost", new, 1)
    database.runs["kept"].status = "completed"
    database.feed.append(("lost", Recorded(1, 1, "RunStarted", 1, b"{}")))
    database.become(standby)
    assert list(database.runs) == list(database.open_runs) == ["kept"]
    assert database.runs["kept"] is database.open_runs["kept"]
    assert database.runs["kept"].status == "running"
    assert (len(database.feed), database.feed.stamps) == (0, [])
    lease, now = database.register("n", "", (), 1_000), database.clock.now()
    database.skip(86_400_000)
    assert database.clock.now() == now + 86_400_000
    assert lease.expires_at == database.clock.now() + 1_000


def test_a_registration_that_nobody_waits_for_any_more_is_renewed_by_nobody(loop):
    """The connection broke before it arrived. In seed 1003331 two coordinators found themselves alive, for ever."""
    process = Process("p")
    process.clocks = ProcessClocks(loop, random.Random(7))
    database = Replica(SimClock(loop))
    network = Network(loop, random.Random(1), process, Faults(), Trace(loop))
    store = SimStore(database, EstimatedClock(database.true_clock, process.clocks), network)

    async def register() -> None:
        await store.open()
        asking = asyncio.create_task(store.liveness.register("n", "", (), ttl_ms=1_000))
        while not network._replies:
            await asyncio.sleep(0)
        network.drop()
        with pytest.raises(StoreUnavailable):
            await asking
        assert list(database.living()) == []
        await asyncio.sleep(0.9)
        assert [row.name for row in database.living()] == ["n"], "it was carried out after all"
        await asyncio.sleep(5)

    context = contextvars.copy_context()
    context.run(PROCESS.set, process)
    loop.run_until_complete(loop.create_task(register(), context=context))
    (row,) = database.incarnations.values()
    assert row.expires_at < database.clock.now() - 3_000


def test_coverage_counts_the_lines_of_functions_that_ran(tmp_path):
    path = tmp_path / "room.py"
    path.write_text(
        "X = 1\n\n\nclass P:\n    def said(self):\n        '''Only said.'''\n\n\n"
        "def half(value):\n    if value:\n        return 1\n    return 2\n"
    )
    assert coverage.lines_within_functions(path) == {10, 11, 12}
    covered = coverage.Coverage()
    with coverage.traced() as lines:
        from pointsman.kernel.policy.failures import counts_against

        counts_against("timeout")
    covered.add(lines)
    report = covered.report()
    assert report["files"]["kernel/policy/failures.py"] == {"percent": 100.0, "missing": []}
    assert report["percent"] < 5


def test_a_story_leaves_out_polls_and_keeps_what_happened():
    trace = [
        "   0.1 n0.1       claim_due  -> []",
        "   0.2 n0.1       claim_orphans  -> [r1@2]",
        "   0.3 n0.1       FAULT lost renew ",
        "   0.4 n0.1       FAULT lost append r1@1:0+2=running",
        "   0.5 n1.1       FAULT crash ",
        "   0.6 n0.1       CALL billing r1 billing#1",
    ]
    assert list(story(trace)) == [trace[1], *trace[3:]]


def test_shapes_are_of_every_profile_and_most_are_small():
    shapes = [draw(random.Random(f"shape {seed}"), nodes_max=3) for seed in range(300)]
    assert {shape.profile for shape in shapes} == set(PROFILES)
    assert sum(shape.runs <= 4 for shape in shapes) > 200


def test_an_effect_outside_of_a_simulation_says_what_it_is_for():
    with pytest.raises(RuntimeError, match="pointsman simulate"):
        effect("charge")
