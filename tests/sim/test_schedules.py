"""Seeds that must be clean, and proof that they are worth something: enough happens, and a seed is a schedule."""

import asyncio
import json
import random
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import NewRun
from pointsman.testing.sim.__main__ import main
from pointsman.testing.sim.campaign import run_seeds, summarise
from pointsman.testing.sim.client import Clients
from pointsman.testing.sim.database import Replica
from pointsman.testing.sim.evidence import Ack
from pointsman.testing.sim.journal import Invocation
from pointsman.testing.sim.loop import SimLoop
from pointsman.testing.sim.rescue import Rescue
from pointsman.testing.sim.workload import OWN
from pointsman.testing.sim.world import World, simulate

SEEDS = 60
SHOW_DIGESTS = """
import json
from pointsman.testing.sim import simulate
print(json.dumps([simulate(seed).digest for seed in (3, 1, 2)]))
"""


def test_seeds_are_clean_and_not_vacuous():
    reports = run_seeds(range(SEEDS), jobs=1)
    summary = summarise(reports, seconds=1.0)
    assert summary["violations"] == []
    assert summary["repeated"] > 0
    assert summary["runs_completed"] == summary["runs"]


def test_the_work_is_divided_and_the_reports_are_the_same():
    assert run_seeds(range(60, 90), jobs=2) == run_seeds(range(60, 90), jobs=1)


def test_a_seed_is_a_schedule():
    first = simulate(7, is_traced=True)
    simulate(8)
    again = simulate(7, is_traced=True)
    assert first.trace
    assert first.trace == again.trace
    assert simulate(7) == replace(first, trace=[])
    assert first.digest == again.digest
    assert simulate(9).digest != first.digest


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_it_is_the_same_in_a_process_with_another_hash_seed(hash_seed):
    environment = {"PYTHONHASHSEED": hash_seed, "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", SHOW_DIGESTS], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [simulate(seed).digest for seed in (3, 1, 2)]


def test_the_command_prints_one_json_object(capsys):
    assert main(["--seeds", "2", "--start", "20", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["seeds"] == 2
    assert shown["violations"] == []
    assert {"operations", "runs_completed", "faults", "takeovers", "schedules_per_s"} <= shown.keys()


def test_the_command_shows_one_seed_line_by_line(capsys):
    assert main(["--seed", "5", "--trace"]) == 0
    shown = capsys.readouterr().out
    assert "HEALED" in shown
    assert "digest" in shown


def test_a_violation_names_its_seed_and_fails_the_command(monkeypatch, capsys):
    report = simulate(0)
    report.violations = ["one_end_and_it_is_last: made up"]
    monkeypatch.setattr("pointsman.testing.sim.campaign.simulate", lambda seed, store: report)
    assert main(["--seeds", "1"]) == 1
    assert "python -m pointsman.testing.sim --seed 0 --trace" in capsys.readouterr().out


def test_a_pass_in_which_nothing_happens_is_a_failure():
    quiet = simulate(0)
    quiet.faults, quiet.takeovers, quiet.operations, quiet.runs_completed = {"crash": 1}, 0, 3, 0
    whats = [violation["what"] for violation in summarise([quiet] * 60, 1.0)["violations"]]
    assert [what.split()[2] for what in whats] == ["operations", "runs_completed", "takeovers", "kinds"]


def test_what_was_seen_of_a_database_that_is_gone_is_no_evidence():
    """A failover between an agent's call and its outcome: places in the feed are given twice."""
    loop = SimLoop(random.Random(1))
    world = World(1, loop, OWN, store="memory", is_traced=False)
    assert isinstance(world.database, Replica)
    row = world.database.insert("r", NewRun(workflow="chain", version=1, build="", bucket=0, digest="d"), 1)
    standby = world.database.state()
    row.events.append(Recorded(1, 0, "RunStarted", 1, b"{}"))
    world.database.feed.append(("r", row.events[0]))
    world.clients.acks.append(Ack("read", "r", "accepted", 1, asked=1))
    world.journal.invocations.append(Invocation("r", "c", 1, "k", 1, "n", 0.1, 1, False, 1))
    world.database.become(standby)
    world.forget(world.database.position)
    loop.close()
    assert (world.position, world.journal.invocations[0].position) == (0, 0)
    assert (world.clients.acks[0].position, world.clients.acks[0].asked) == (0, 0)


class Place:
    """As much of a world, its database and its nodes as clients need."""

    def __init__(self, tasks=(), runs=()):
        self.position = 3
        self.database = self.reader = self
        self.open_tasks = lambda: tasks
        self.open_runs_now = lambda: runs

    def any_node(self, rng):
        return self

    async def ask(self, ask, *, timeout_s, hangs_up):
        return await ask(self)

    def say(self, what):
        """Nobody reads it."""


def test_what_is_asked_during_a_failover_was_asked_of_the_database_that_goes_on():
    place = Place()
    clients = Clients(place, random.Random(1), [], span_s=1.0, answer=lambda rng, question: None)

    async def fail_over(node):
        place.position = 1
        clients.forget(place.position)
        place.position = 2
        return "accepted"

    loop = SimLoop(random.Random(1))
    loop.run_until_complete(clients.operate("signal", "r", "k", fail_over))
    loop.close()
    assert clients.acks == [Ack("signal", "r", "accepted", 2, "k", asked=1)]
    assert clients.unfinished == {}


class Dead(Place):
    """Its one node never answers."""

    async def ask(self, ask, *, timeout_s, hangs_up):
        await asyncio.Event().wait()


def left_by(begin):
    """The operations that are under way when two are and what they belong to is cancelled, and has ended: in many
    orders of what is due at one time."""

    async def play():
        clients, work = begin()
        task = asyncio.ensure_future(work)
        while len(clients.unfinished) < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait((task,))
        return list(clients.unfinished)

    left = []
    for seed in range(20):
        loop = SimLoop(random.Random(seed))
        left += loop.run_until_complete(play())
        loop.close()
    return left


def test_of_two_who_answer_one_question_none_is_left_when_the_schedule_is_over():
    def begin():
        world = Dead(tasks=[SimpleNamespace(id="t", run="r", question="Well?")])
        clients = Clients(world, random.Random(5), [], span_s=1.0, answer=lambda rng, question: 1)
        return clients, clients.keep_answering()

    assert left_by(begin) == []


def test_of_two_runs_that_are_mended_none_is_left_when_the_schedule_is_over():
    def begin():
        world = Dead(runs=[SimpleNamespace(id=run, status="quarantined") for run in ("r", "s")])
        clients = Clients(world, random.Random(1), [], span_s=1.0, answer=lambda rng, question: 1)
        return clients, Rescue(world, clients, random.Random(1), span_s=1.0).keep_looking()

    assert left_by(begin) == []


@pytest.mark.parametrize("seed", [3344, 5204])
def test_a_run_that_was_redriven_goes_on_after_its_redrive(seed):
    """What its body asked for anew once had the time of the cause that it answered, from before the redrive."""
    assert simulate(seed).violations == []


def test_what_two_windows_used_is_carried_into_one_of_another_length():
    """And is no violation: an operator made the windows shorter, and nothing was granted in that one."""
    assert simulate(5586).violations == []
