"""Replay identical: the final log, from every prefix, gives exactly the requests that are recorded."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from pointsman.agents.directory import AgentDirectory
from pointsman.kernel import events as ev
from pointsman.kernel.execution import Execution
from pointsman.kernel.upcast import read_event
from pointsman.testing.sim.evidence import Evidence

OF_THE_CLUSTER = ("AgentSelected", "ModeRead", "CallOmitted")
"""What a body learns of the cluster, and what it does not ask for because of it."""
SAMPLES = 2
"""Prefixes of each run that are replayed, beside the whole; over many seeds that is every prefix."""


def replays_identically(evidence: Evidence, rng: random.Random, prefixes: int = SAMPLES) -> Iterator[str]:
    directory = evidence.directory
    if directory is None:
        return
    for run, stream in evidence.streams.items():
        causes = [place for place, event in enumerate(evidence.events(run)) if isinstance(event, ev.Cause)]
        for place in [None, *rng.sample(causes, min(prefixes, len(causes)))]:
            wrong = replay_differs(directory, run, stream, place)
            # Of several releases, one has done it.
            if wrong and all(replay_differs(other, run, stream, place) for other in evidence.releases_before):
                yield f"{run}: {wrong}"
                break


def replay_differs(directory: AgentDirectory, run: str, stream: Sequence[ev.Recorded], cause: int | None) -> str | None:
    """Replay up to the event at index `cause`, or everything; what comes next must be what the log has."""
    prefix = stream if cause is None else stream[: cause + 1]
    started = read_event(stream[0])
    if not isinstance(started, ev.RunStarted):
        return f"its stream begins with {type(started).__name__}"
    workflow = directory.workflow(started.workflow, started.workflow_version)
    if workflow is None:
        return f"its workflow {started.workflow!r} is unknown"
    execution = Execution(run, workflow, directory)
    try:
        execution.replay(prefix)
        produced = [(type(p.event).__name__, p.body) for p in execution.take()]
        ending = execution.ending
    except Exception as error:  # noqa: BLE001 - a log that breaks the kernel itself is a violation, not a crash of the checker
        return f"replay of {len(prefix)} of {len(stream)} events: {error!r}"
    finally:
        execution.close()
    recorded = [] if cause is None else _answers(stream[cause + 1 :])
    if not _agree(produced, recorded):
        return f"replay of {len(prefix)} of {len(stream)} events gives {produced}, recorded is {recorded}"
    if cause is None and ending is not None:
        return f"the body is over ({type(ending).__name__}), and the log does not say so"
    return None


def _agree(produced: Sequence[tuple[str, bytes]], recorded: Sequence[tuple[str, bytes]]) -> bool:
    """The same requests, up to the first that depends on how the cluster was: whom a selection chose and which mode it
    was is recorded, and nobody can be asked to find the same again."""
    for ours, theirs in zip(produced, recorded, strict=False):
        if ours != theirs:
            return ours[0] in OF_THE_CLUSTER or theirs[0] in OF_THE_CLUSTER
    return len(produced) == len(recorded)


def _answers(rest: Sequence[ev.Recorded]) -> list[tuple[str, bytes]]:
    """The requests that follow a cause directly, through the generations that they begin."""
    out: list[tuple[str, bytes]] = []
    for row in rest:
        event = read_event(row)
        if isinstance(event, ev.RunRestarted):
            out.append((row.type, row.body))
            continue
        if isinstance(event, (ev.Cause, *ev.TERMINAL)):
            break
        if isinstance(event, ev.Request):
            out.append((row.type, row.body))
    return out
