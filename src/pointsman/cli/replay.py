"""`pointsman replay`: does new code fit the logs of runs, before it is deployed?"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pointsman.app import App
from pointsman.cli import completing, output
from pointsman.cli.client import Client
from pointsman.cli.coordinator import share_hash_seed, take_hash_seed
from pointsman.cli.exits import Exit, Usage, guarded
from pointsman.cli.load import load_app
from pointsman.cli.options import DEFAULT_URL, AsJson, Store, Token, Url
from pointsman.cli.runs.show import all_events
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import OPEN_STATUSES, EventLog, RunFilter, size_of, was_cut
from pointsman.stores.urls import store_of
from pointsman.testing.replay import Fit, fit, load

PAGE, PAGE_BYTES = 500, 4_000_000
READ_TOGETHER = 50
Log = tuple[str, Sequence[Recorded]]


@guarded
def replay(
    app: Annotated[str, typer.Argument(metavar="APP", help="module:attribute or file.py:attribute")],
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE...", help="Logs: of `runs show --json --inputs`, or of `testing.replay.save`."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Every run that has not ended.")] = False,
    workflow: Annotated[
        str | None, typer.Option(help="With --open: only runs of this workflow.", autocompletion=completing.workflows)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="With --open: the newest so many.")] = None,
    store: Store = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Say whether the code of APP fits the logs of runs.

    Of every open run of a cluster (by its API, or by --store from its database), or of files. Nothing is changed and no
    agent is called. Exit code 1 when a run does not fit: deployed, this code would stop it, or leave it stranded.
    """
    if open_ == bool(files):
        raise Usage("give --open for every open run of a cluster, or FILEs; one of them")
    if not open_ and (workflow is not None or limit is not None):
        raise Usage("--workflow and --limit say which open runs are meant: they go with --open")
    if open_:  # what depends on the order of a set is to be seen as the cluster sees it
        _share_hash_seed(store, url, token)
    program = load_app(app)
    if files:
        fits = [fit(program, run, events) for run, events in map(_of_file, files)]
    elif store is not None:
        fits = asyncio.run(_of_store(program, store, workflow, limit))
    else:
        with Client(url, token) as client:
            fits = [fit(program, run, events) for run, events in _of_api(client, workflow, limit)]
    _show(fits, as_json=as_json)
    if any(one.code for one in fits):
        raise typer.Exit(Exit.FAILED)


def _share_hash_seed(store: str | None, url: str, token: str | None) -> None:
    """Of a coordinator that has none of its cluster's, such as one in a test, nobody can take it."""
    if store is not None:
        share_hash_seed(store)
        return
    with Client(url, token) as client:
        seed = client.get("/v1/coordinator").get("hash_seed")
    if seed is not None:
        take_hash_seed(str(seed))


# -- where logs come from ---------------------------------------------------------------------------------------------


async def _of_store(app: App, dsn: str, workflow: str | None, limit: int | None) -> list[Fit]:
    store = store_of(dsn)
    await store.open()
    fits: list[Fit] = []
    cursor: str | None = None
    where = RunFilter(status=OPEN_STATUSES, workflow=workflow)
    try:
        while (left := PAGE if limit is None else min(limit - len(fits), PAGE)) > 0:
            heads, cursor = await store.log.list_runs(where, limit=min(left, READ_TOGETHER), cursor=cursor)
            asked = {head.id: 0 for head in heads}
            logs = await store.log.read_many(asked, limit=PAGE, bytes_max=PAGE_BYTES)
            size: float = 0
            for run in asked:
                events = logs.pop(run)
                size += size_of(events)
                if len(events) >= PAGE or size >= PAGE_BYTES:
                    events += await _rest(store.log, run, events[-1].sequence if events else 0)
                fits.append(fit(app, run, events))
            if cursor is None:
                break
    finally:
        await store.close()
    return fits


async def _rest(log: EventLog, run: str, after: int) -> list[Recorded]:
    """All its events behind `after`; each may be large, and comes in an answer that is not much larger."""
    events: list[Recorded] = []
    while True:
        page = await log.read(run, after=after, limit=PAGE, bytes_max=PAGE_BYTES)
        events += page
        if not was_cut(page, PAGE, PAGE_BYTES) or page[-1].sequence <= after:
            return events
        after = page[-1].sequence


def _of_api(client: Client, workflow: str | None, limit: int | None) -> Iterator[Log]:
    cursor: str | None = None
    seen = 0
    while (left := PAGE if limit is None else min(limit - seen, PAGE)) > 0:
        page = client.get("/v1/runs", status=list(OPEN_STATUSES), workflow=workflow, limit=left, cursor=cursor)
        for run in page["runs"]:
            seen += 1
            yield run["id"], recorded(all_events(client, run["id"], inputs=True))
        cursor = page["cursor"]
        if cursor is None:
            return


def recorded(events: Iterable[Mapping[str, Any]]) -> list[Recorded]:
    """The API's events as a log has them; inputs must be whole."""
    return [
        Recorded(
            event["sequence"], output.to_ms(event["at"]), event["type"], event["version"],
            json.dumps(event["data"], ensure_ascii=False, separators=(",", ":")).encode(),
        )
        for event in events
    ]  # fmt: skip


def _of_file(path: Path) -> Log:
    """Raises Usage: it can't be read, or is no log."""
    try:
        text = path.read_text()
        if not text.lstrip().startswith('{"run":'):
            return path.stem, load(path)
        shown = json.loads(text)
        if any(event["data"].get("pieces") for event in shown["events"]):
            raise Usage(f"{path}: inputs stand in pieces; write it with `runs show ID --json --inputs`")
        return shown["run"]["id"], recorded(shown["events"])
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Usage(f"{path}: no log of a run ({error}); write one with `runs show ID --json --inputs`") from error


# -- what is said -----------------------------------------------------------------------------------------------------


def _show(fits: Sequence[Fit], *, as_json: bool) -> None:
    wrong = [one for one in fits if one.code]
    if as_json:
        runs = [dataclasses.asdict(one) | {"fits": not one.code} for one in fits]
        output.print_json({"checked": len(fits), "misfits": len(wrong), "runs": runs})
        return
    console = output.console()
    for one in fits:
        name = f"run {one.run} ({one.workflow} v{one.version}, {one.events} events)"
        if one.code:
            console.print(output.text(f"{name}: {one.code}", "bold red"), soft_wrap=True)
            said = [f"  the log has  {one.recorded}", f"  the code does {one.produced}"]
            for line in said if one.recorded else [f"  {one.message}"]:
                console.print(output.text(line), soft_wrap=True)
        for warning in one.warnings:
            console.print(output.text(f"{name}: {warning}", "yellow"), soft_wrap=True)
    print(f"{len(fits)} runs checked: {len(fits) - len(wrong)} fit, {len(wrong)} do not")
