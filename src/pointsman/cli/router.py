"""`pointsman router`: the stateless process in front."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from pointsman.cli import output
from pointsman.cli.exits import guarded
from pointsman.cli.options import AsJson, LogLevel, WithParent
from pointsman.cli.process import log_to_stderr, serve
from pointsman.cli.settings import router_settings
from pointsman.cluster import die_with_parent
from pointsman.node import AddressInUse, join_address
from pointsman.process import tune_process
from pointsman.router import RouterService

DEFAULT_PORT = 7777


class _Router(RouterService):
    """Its bind errors as a named one."""

    async def start(self) -> None:
        try:
            await super().start()
        except OSError as error:
            raise AddressInUse(f"{error.strerror or error}; give another --port, or 0 for any free one") from error


@guarded
def router(
    host: Annotated[str, typer.Option(help="Address to bind; anything but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 for any free one.")] = DEFAULT_PORT,
    coordinator: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="One to try always; others announce themselves. May be repeated."),
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="POINTSMAN_TOKEN", help="Bearer token that clients must show.")
    ] = None,
    announce_token: Annotated[
        str | None,
        typer.Option(envvar="POINTSMAN_ANNOUNCE_TOKEN", help="What coordinators must show, if another."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A limit or deadline; may be repeated."),
    ] = None,
    log_level: LogLevel = "info",
    with_parent: WithParent = None,
    as_json: AsJson = False,
) -> None:
    """Run a router, which sends each request to a coordinator.

    To the one whose turn it is, or to the next when that is gone.
    """
    if with_parent is not None:
        die_with_parent(with_parent)
    settings = router_settings(
        set_ or (), host=host, port=port, token=token, announce_token=announce_token,
        coordinators=tuple(coordinator or ()),
    )  # fmt: skip
    log_to_stderr(log_level)
    service = _Router(settings)
    tune_process()

    def introduce() -> None:
        address = join_address(host, service.port)
        if as_json:
            output.print_json({"address": address, "pid": os.getpid(), "coordinators": coordinator or []})
        else:
            typer.echo(f"router at http://{address}, pid {os.getpid()}")
            for name in settings.__struct_fields__:
                if name.endswith(("_s", "_max")):
                    typer.echo(f"  limit {name:32} {getattr(settings, name)}")
        sys.stdout.flush()

    serve(service, introduce, hurry=service.hurry)
