"""`pointsman worker`: an app's agents in a process that fetches their calls; nothing has to reach it."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from pointsman import serving
from pointsman.cli import output, process
from pointsman.cli.exits import Exit, Usage, guarded
from pointsman.cli.load import load_app
from pointsman.cli.options import DEFAULT_URL, AsJson, LogLevel, Token, Url
from pointsman.ports.agents import TTL_S_MAX, TTL_S_MIN
from pointsman.ports.workers import CONCURRENCY_MAX
from pointsman.process import tune_process
from pointsman.serving.registration import TTL_S
from pointsman.serving.worker import CONCURRENCY, DRAIN_S, WAIT_S


@guarded
def worker(
    app: Annotated[str, typer.Argument(metavar="APP", help="module:attribute or file.py:attribute")],
    url: Url = DEFAULT_URL,
    token: Token = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=CONCURRENCY_MAX, help="Attempts at the same time.")
    ] = CONCURRENCY,
    drain: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds for attempts under way when it is told to leave.")
    ] = DRAIN_S,
    wait: Annotated[float, typer.Option(min=0.1, max=300, help="Seconds that one poll waits for calls.")] = WAIT_S,
    ttl: Annotated[
        float,
        typer.Option(
            min=TTL_S_MIN, max=TTL_S_MAX, help="Seconds until its agents are forgotten when all workers died."
        ),
    ] = TTL_S,
    log_level: LogLevel = "info",
    as_json: AsJson = False,
) -> None:
    """Fetch the calls of APP's agents, and bring the results.

    It asks every coordinator of the cluster, through a router or directly: it opens connections and takes none. Told to
    leave (SIGTERM) it finishes what it is at, or leaves it to other workers; told twice, it leaves at once.
    """
    if not url.startswith(("http://", "https://")):
        raise Usage(f"--url {url}: give it as http://HOST:PORT")
    process.log_to_stderr(log_level)
    served = load_app(app)
    try:
        work = serving.Worker(
            served, url=url, token=token, concurrency=concurrency, ttl_s=ttl, drain_s=drain, wait_s=wait
        )
    except ValueError as error:
        raise Usage(f"{app}: {error}") from error
    tune_process()

    def introduce() -> None:
        names = list(work.agents)
        if as_json:
            output.print_json(
                {"worker": work.id, "pid": os.getpid(), "url": url, "concurrency": concurrency, "agents": names}
            )
            return
        typer.echo(f"worker {work.id} of app {served.name}, pid {os.getpid()}")
        typer.echo(f"  cluster       {url}")
        typer.echo(f"  agents        {', '.join(names)}")
        typer.echo(f"  concurrency   {concurrency}")
        sys.stdout.flush()

    process.serve(work, introduce, hurry=work.hurry)
    # A sync agent's thread that is still at work can't be stopped, and nobody waits for what it does.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(Exit.OK)
