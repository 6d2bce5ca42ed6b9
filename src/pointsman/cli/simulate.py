"""`pointsman simulate`: a user's own app under the simulator, with every fault and every check."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from pointsman.cli import output
from pointsman.cli.exits import Exit, Usage, guarded
from pointsman.cli.load import load_app
from pointsman.cli.options import AsJson
from pointsman.kernel.events import Recorded
from pointsman.process import HASH_SEED
from pointsman.testing.sim import world
from pointsman.testing.sim.campaign import chunks_of, summarise
from pointsman.testing.sim.report import Report
from pointsman.testing.sim.scenario import Given
from pointsman.testing.sim.stores import MEMORY, SQLITE
from pointsman.testing.sim.story import story
from pointsman.testing.sim.users import given, replay_elsewhere

T = TypeVar("T")
ELSEWHERE_SEEDS = 10
"""Of so many schedules the runs are replayed in a process with other hashes."""


class SimStore(StrEnum):
    MEMORY = MEMORY
    SQLITE = SQLITE


@dataclass(frozen=True)
class Source:
    """What to simulate, in words that a process can be given."""

    app: str
    workflow: str | None
    inputs: tuple[str, ...]
    store: SimStore
    command: str


@guarded
def simulate(
    app: Annotated[str, typer.Argument(metavar="APP", help="module:attribute or file.py:attribute")],
    seeds: Annotated[int, typer.Option(min=1, help="How many schedules.")] = 1000,
    start: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="One schedule alone.")] = None,
    workflow: Annotated[str | None, typer.Option(help="Which workflow; the app's only one without.")] = None,
    input_: Annotated[str | None, typer.Option("--input", metavar="JSON", help="Its input.")] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON lines: inputs, or {workflow, input, signals, answers}."),
    ] = None,
    store: Annotated[SimStore, typer.Option(help="What the schedules run on.")] = SimStore.MEMORY,
    trace: Annotated[bool, typer.Option("--trace", help="With --seed: what happened, line by line.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; one a core without.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run an app through schedules of faults, in virtual time.

    Its workflows and agents, through thousands of them; every rule is checked after each.

    The exit code is 1 when a schedule breaks a rule; each is named with the command that shows it.
    """
    if trace and seed is None:
        raise Usage("--trace shows one schedule: give --seed too")
    if input_ is not None and inputs is not None:
        raise Usage("give --input or --inputs, not both")
    words = ["pointsman", "simulate", app, *(["--workflow", workflow] if workflow else [])]
    words += ["--input", input_] if input_ is not None else ["--inputs", str(inputs)] if inputs is not None else []
    words += ["--store", store.value] if store is not SimStore.MEMORY else []
    source = Source(app, workflow, _texts(input_, inputs), store, shlex.join(words))
    _scenario(source)  # what is wrong with it is said here, once
    wanted = range(start, start + seeds) if seed is None else range(seed, seed + 1)
    began = time.perf_counter()
    reports = _run_all(source, wanted, jobs=jobs or os.cpu_count() or 1, is_traced=trace)
    summary = summarise(reports, time.perf_counter() - began, command=source.command, is_own=False)
    _show(summary, reports[0].trace if trace else [], as_json=as_json)
    raise typer.Exit(int(Exit.FAILED if summary["violations"] else Exit.OK))


def _texts(input_: str | None, inputs: Path | None) -> tuple[str, ...]:
    if inputs is None:
        return () if input_ is None else (input_,)
    try:
        return tuple(line for line in inputs.read_text().splitlines() if line.strip())
    except OSError as error:
        raise Usage(f"--inputs {inputs}: {error.strerror}") from error


@cache
def _scenario(source: Source) -> Given:
    return given(load_app(source.app), source.workflow, source.inputs, command=source.command)


def _run_all(source: Source, seeds: Sequence[int], *, jobs: int, is_traced: bool) -> list[Report]:
    """In processes with one hash seed, so that a schedule is the same again; then some of it in one with another."""
    work = partial(_work, source, seeds[:ELSEWHERE_SEEDS], is_traced)
    reports = [report for some in _in_processes(jobs, "0", work, chunks_of(seeds)) for report in some]
    histories = [(report.seed, report.streams) for report in reports if report.streams]
    elsewhere = _in_processes(1, "1", partial(_replay, source), [streams for _, streams in histories])
    wrong = dict(zip((seed for seed, _ in histories), elsewhere, strict=True))
    return [
        replace(report, violations=report.violations + wrong.get(report.seed, []), streams={}) for report in reports
    ]


def _in_processes(jobs: int, hash_seed: str, work: Callable[[Any], T], parts: Sequence[Any]) -> list[T]:
    before = os.environ.get(HASH_SEED)
    os.environ[HASH_SEED] = hash_seed
    try:
        with ProcessPoolExecutor(min(jobs, max(len(parts), 1)), mp_context=get_context("spawn")) as pool:
            return list(pool.map(work, parts))
    finally:
        if before is None:
            del os.environ[HASH_SEED]
        else:
            os.environ[HASH_SEED] = before


def _work(source: Source, kept: Sequence[int], is_traced: bool, seeds: Sequence[int]) -> list[Report]:
    scenario = _scenario(source)
    store = source.store.value
    return [world.simulate(seed, scenario, store=store, is_traced=is_traced, keeps=seed in kept) for seed in seeds]


def _replay(source: Source, streams: Mapping[str, Sequence[Recorded]]) -> list[str]:
    return replay_elsewhere(_scenario(source).app, streams)


def _show(summary: dict[str, Any], trace: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        output.print_json(summary | ({"trace": list(story(trace))} if trace else {}))
        return
    for line in story(trace):
        print(output.clean(line))
    struck = ", ".join(f"{count} {kind}" for kind, count in summary["faults"].items())
    print(
        f"{summary['seeds']} schedules in {summary['seconds']} s: {summary['runs']} runs, "
        f"{summary['runs_completed']} ended, {summary['invocations']} attempts of agents "
        f"({summary['repeated']} repeated by another owner), {summary['takeovers']} runs taken over"
    )
    print(f"faults: {struck or 'none'}")
    for violation in summary["violations"]:
        print(output.clean(f"VIOLATION seed {violation['seed']}: {violation['what']}"))
        print(f"  {violation['reproduce']}")
    print(f"{len(summary['violations'])} violations")
