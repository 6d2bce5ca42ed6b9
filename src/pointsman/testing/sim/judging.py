"""Which mutants are caught, by which checkers, in how many seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pointsman.app import App
from pointsman.kernel import events as ev
from pointsman.kernel.run import Run
from pointsman.testing.sim.evidence import Evidence
from pointsman.testing.sim.journal import JOURNAL
from pointsman.testing.sim.loop import PROCESS
from pointsman.testing.sim.mutants import MUTANTS
from pointsman.testing.sim.scenario import Given, Scenario, Start
from pointsman.testing.sim.sqlite.mutants import SQLITE_MUTANTS
from pointsman.testing.sim.stores import MEMORY, SQLITE
from pointsman.testing.sim.workload import FETCHING, OWN
from pointsman.testing.sim.world import simulate


def one_mind(evidence: Evidence) -> Iterator[str]:
    """A run whose code does otherwise in each process is stopped: what is recorded is of one process alone."""
    for run in evidence.streams:
        targets = {event.target for event in evidence.events(run) if isinstance(event, ev.CallRequested)}
        if len(targets) > 1:
            yield f"{run}: its log has what {len(targets)} processes wanted, {sorted(targets)}"


def _fickle() -> App:
    """A workflow that does otherwise in each process."""
    app = App("fickle")

    async def answer(text: str) -> str:
        await JOURNAL.get().work(seconds=0.3)
        return text

    agents = [app.agent(name=f"of-n{number}")(answer) for number in range(3)]

    @app.workflow()
    async def fickle(run: Run, size: int) -> int:
        process = PROCESS.get()
        mine = agents[int(process.name[1])] if process is not None else agents[0]
        for number in range(size):
            await run.call(mine, f"{number}", key=f"step {number}")
        return size

    return app


FICKLE = Given(_fickle(), [Start("fickle", b"3", b"3", cancelled=0.0)], invariants=[one_mind], delay_s=0.0)


def _lasting() -> App:
    """A workflow that goes on for days after its child has ended."""
    app = App("lasting")

    @app.workflow()
    async def short(run: Run, size: int) -> int:
        return size + run.generation

    @app.workflow()
    async def lasting(run: Run, size: int) -> int:
        done: int = await run.call(short, size)
        await run.sleep(8 * 24 * 3600)
        return done

    return app


LASTING = Given(_lasting(), [Start("lasting", b"1", b"1", cancelled=0.0)], delay_s=0.0, ages=True)

SPECIAL: dict[str, tuple[Scenario, str]] = {
    "replay-check": (FICKLE, "one_mind"),
    "retention-parents": (LASTING, "only_the_past_is_deleted"),
    "worker-attempt": (FETCHING, "results_are_of_their_attempt"),
}
"""Guards that matter only to code that is wrong, in the long run, or to few runs: the scenario that has it, and the one
checker that counts there."""


@dataclass
class Verdict:
    """How a mutant fared: which checkers caught it, in how many seeds of how many."""

    name: str
    caught_by: dict[str, int] = field(default_factory=dict)
    seeds_caught: int = 0
    first_seed: int | None = None
    seeds: int = 0


def violations_of(name: str, seed: int) -> list[str]:
    """What the checkers say of a seed in the scenario that is this guard's."""
    scenario, checker = SPECIAL.get(name, (OWN, ""))
    report = simulate(seed, scenario, store=store_of(name))
    return [what for what in report.violations if what.startswith(checker)]


def store_of(name: str) -> str:
    """The store on which a guard is broken."""
    return SQLITE if name in SQLITE_MUTANTS else MEMORY


def judge(name: str, seeds: Sequence[int], *, enough: int | None = None) -> Verdict:
    """Run seeds with one guard broken, until `enough` of them have caught it."""
    verdict = Verdict(name)
    caught_by: Counter[str] = Counter()
    with MUTANTS[name]():
        for seed in seeds:
            verdict.seeds += 1
            violations = violations_of(name, seed)
            if violations:
                verdict.seeds_caught += 1
                verdict.first_seed = seed if verdict.first_seed is None else verdict.first_seed
                caught_by.update({violation.partition(":")[0] for violation in violations})
            if enough is not None and verdict.seeds_caught >= enough:
                break
    verdict.caught_by = dict(sorted(caught_by.items()))
    return verdict
