"""Other code comes in the middle: what fits goes on, what does not is stopped by name, what failed is redriven."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pointsman.kernel import events as ev
from pointsman.kernel.errors import NonDeterministicWorkflow
from pointsman.testing.sim.checkers import only_what_harms_is_held_back
from pointsman.testing.sim.evidence import Evidence
from pointsman.testing.sim.workload import Changing
from pointsman.testing.sim.world import simulate


class Watched(Changing):
    """Notes what became of the runs."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.last: Evidence | None = None
        self.invariants = (self._look,)

    def _look(self, evidence: Evidence) -> Iterator[str]:
        self.last = evidence
        for run, head in evidence.heads.items():
            events = evidence.events(run)
            stopped = any(isinstance(event, ev.RunStopped) for event in events)
            redriven = any(isinstance(event, ev.RunRedriven) for event in events)
            self.seen[
                f"{head.workflow} {head.version} {head.status}{' stopped' * stopped}{' redriven' * redriven}"
            ] += 1
        return iter(())


ENDS = (
    "growing 1 completed", "completed stopped", "mended 1 completed redriven", "moving 1 completed",
    "moving 2 completed",
)  # fmt: skip
"""What may become of a run. One schedule in some thirty has one that is stopped by older code."""


@pytest.fixture(scope="module")
def watched() -> Watched:
    scenario = Watched()
    for seed in range(300):
        report = simulate(seed, scenario)
        assert report.violations == []
        assert report.faults["deploy"] == 2
        if seed >= 30 and all(any(end in seen for seen in scenario.seen) for end in ENDS):
            break
    return scenario


@pytest.mark.parametrize("end", ENDS)
def test_everything_comes_to_its_end(watched: Watched, end: str) -> None:
    assert any(end in seen for seen in watched.seen), watched.seen


def test_a_stop_by_other_code_is_only_allowed_where_there_is_other_code(watched: Watched) -> None:
    assert watched.last is not None
    stop = ev.RunStopped(kind=NonDeterministicWorkflow.code, message="", build="b")
    started = next(iter(watched.last.streams.values()))[0]
    stopped = replace(watched.last, streams={"r": [started, ev.Recorded(2, 2, "RunStopped", 1, ev.encode_event(stop))]})
    stopped._read.clear()
    assert list(only_what_harms_is_held_back(stopped)) == []
    assert list(only_what_harms_is_held_back(replace(stopped, releases_before=())))
