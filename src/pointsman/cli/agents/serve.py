"""`pointsman agents serve`: an app's agents in a process of their own, registered with a cluster."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from pointsman import serving
from pointsman.cli import output, process
from pointsman.cli.exits import Usage, guarded
from pointsman.cli.load import load_app
from pointsman.cli.options import DEFAULT_URL, AsJson, LogLevel
from pointsman.node import AddressInUse
from pointsman.ports.agents import TTL_S_MAX, TTL_S_MIN
from pointsman.process import tune_process
from pointsman.serving.registration import TTL_S


@guarded
def serve(
    app: Annotated[str, typer.Argument(metavar="APP", help="module:attribute or file.py:attribute")],
    register: Annotated[
        str,
        typer.Option("--register", envvar="POINTSMAN_URL", metavar="URL", help="A router's or coordinator's address."),
    ] = DEFAULT_URL,
    host: Annotated[str, typer.Option(help="Address to bind; anything but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 for any free one.")] = 0,
    advertise: Annotated[
        str | None, typer.Option(metavar="URL", help="How coordinators reach it, if not as it is bound.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="POINTSMAN_AGENTS_TOKEN", help="Bearer token that coordinators must show."),
    ] = None,
    cluster_token: Annotated[
        str | None, typer.Option(envvar="POINTSMAN_TOKEN", help="Bearer token that the cluster wants to hear.")
    ] = None,
    ttl: Annotated[
        float,
        typer.Option(min=TTL_S_MIN, max=TTL_S_MAX, help="Seconds after which it is forgotten when it has died."),
    ] = TTL_S,
    log_level: LogLevel = "info",
    as_json: AsJson = False,
) -> None:
    """Serve the agents of APP over HTTP and keep them registered. They leave when it is told to (SIGTERM)."""
    for name, url in (("--register", register), ("--advertise", advertise)):
        if url is not None and not url.startswith(("http://", "https://")):
            raise Usage(f"{name} {url}: give it as http://HOST:PORT")
    process.log_to_stderr(log_level)
    served = load_app(app)
    names = [agent.name for agent in served.directory.agents() if agent.function is not None]
    if not names:
        raise Usage(f"{app}: it has no agents that are functions, so there is nothing to serve")
    run = functools.partial(
        serving.serve, served, register=register, host=host, port=port, advertise=advertise, token=token,
        cluster_token=cluster_token, ttl_s=ttl,
    )  # fmt: skip
    agents = _Agents(lambda ready: run(ready=ready))
    tune_process()

    def introduce() -> None:
        about = {"url": agents.url, "pid": os.getpid(), "register": register, "ttl_s": ttl, "agents": names}
        if as_json:
            output.print_json(about)
            return
        typer.echo(f"agents of app {served.name} at {agents.url}, pid {os.getpid()}")
        typer.echo(f"  register      {register}, for {ttl:g} s at a time")
        typer.echo(f"  agents        {', '.join(names)}")
        sys.stdout.flush()

    process.serve(agents, introduce)


class _Agents:
    """`serving.serve` as something that is started and stopped."""

    def __init__(self, run: Callable[[Callable[[str], None]], Coroutine[Any, Any, None]]) -> None:
        self._run = run
        self._serving: asyncio.Task[None] | None = None
        self.url = ""

    async def start(self) -> None:
        """Returns once the agents are registered, or the cluster could not be reached yet and is asked on.

        Raises:
            AddressInUse, InsecureBind, InvalidSetting, ClusterRefused.
        """
        ready = asyncio.Event()

        def is_ready(url: str) -> None:
            self.url = url
            ready.set()

        self._serving = asyncio.create_task(self._run(is_ready), name="agents")
        waiting = asyncio.create_task(ready.wait())
        try:
            await asyncio.wait([self._serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._serving.done():
            try:
                self._serving.result()
            except OSError as error:
                raise AddressInUse(f"{error.strerror or error}; give another --port, or 0 for any free one") from error

    async def stop(self) -> None:
        """The agents leave the cluster first, then the server closes."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
