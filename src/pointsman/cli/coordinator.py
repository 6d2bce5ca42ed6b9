"""`pointsman coordinator`: one coordinator process."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from pointsman.agents.addresses import AgentAddresses
from pointsman.app import Webhook
from pointsman.cli import output, settings
from pointsman.cli.exits import Exit, Usage, guarded
from pointsman.cli.load import load_app
from pointsman.cli.options import AsJson, LogLevel, MaxAge, MaxRss, Store, WithParent
from pointsman.cli.process import log_to_stderr, serve
from pointsman.cluster import die_with_parent
from pointsman.node import Limits, Node, NodeSettings, hash_seed
from pointsman.node.recycling import MEGABYTE
from pointsman.process import HASH_SEED, tune_process
from pointsman.stores.urls import store_of
from pointsman.transports.webhook import InvalidSecret, read_secrets

WEBHOOK_SECRET = "POINTSMAN_WEBHOOK_SECRET"


@guarded
def coordinator(  # long because a command declares its options as parameters
    app: Annotated[str, typer.Argument(metavar="APP", help="module:attribute or file.py:attribute")],
    store: Store = None,
    name: Annotated[str, typer.Option(help="Unique among the living coordinators.")] = "coordinator-1",
    host: Annotated[str, typer.Option(help="Address to bind; anything but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 for any free one.")] = 0,
    router: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A router to announce to; may be repeated.")
    ] = None,
    token: Annotated[
        str | None, typer.Option(envvar="POINTSMAN_TOKEN", help="Bearer token that clients must show.")
    ] = None,
    announce_token: Annotated[
        str | None,
        typer.Option(envvar="POINTSMAN_ANNOUNCE_TOKEN", help="What routers want to hear, if another."),
    ] = None,
    advertise: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="How routers reach it, if not as it is bound.")
    ] = None,
    agents_allow: Annotated[
        list[str] | None,
        typer.Option("--agents-allow", metavar="HOST", help="Where agents that register may be; may be repeated."),
    ] = None,
    agents_private: Annotated[
        bool, typer.Option("--agents-private", help="They may have private and loopback addresses too.")
    ] = False,
    agents_token: Annotated[
        str | None, typer.Option(envvar="POINTSMAN_AGENTS_TOKEN", help="Bearer token that they want to hear.")
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Who is told of human tasks; its secret is in POINTSMAN_WEBHOOK_SECRET."),
    ] = None,
    callback: Annotated[
        str | None, typer.Option(metavar="URL", help="Where they reach the API, if not at this coordinator.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A limit or interval; may be repeated."),
    ] = None,
    max_age: MaxAge = None,
    max_rss: MaxRss = None,
    log_level: LogLevel = "info",
    with_parent: WithParent = None,
    as_json: AsJson = False,
) -> None:
    """Run a coordinator, which drives runs.

    It hands them over when it is told to leave (SIGTERM; twice: at once).

    With --max-age or --max-rss it replaces itself when it is too old or too large: it leaves in the same way, and
    goes on as a new process with the same pid. One coordinator of the cluster at a time does so.
    """
    if with_parent is not None:
        die_with_parent(with_parent)
    if store is None:
        raise Usage(
            "--store is missing (or POINTSMAN_STORE): the DSN of the cluster's PostgreSQL, or sqlite:///file.db"
        )
    values = settings.parse(set_ or [])
    addresses = _addresses(agents_allow or (), agents_private)
    node_settings = NodeSettings(
        coordinator=settings.coordinator_settings(name, values),
        api=settings.api_settings(host, port, token, values),
        routers=router or [],
        announce_token=announce_token,
        advertise=advertise,
        agents=addresses,
        agents_token=agents_token,
        webhook=webhook_of(webhook, addresses),
        callback=callback,
        limits=limits_of(max_age, max_rss),
    )
    log_to_stderr(log_level)
    share_hash_seed(store)
    node = Node(load_app(app), store_of(store, settings.store_settings(values)), node_settings)
    tune_process()
    is_worn = serve(
        node,
        lambda: _introduce({**node.describe(), "pid": os.getpid()}, as_json),
        hurry=node.hurry,
        worn=node.until_worn,
    )
    _end(is_worn=is_worn)


def _end(*, is_worn: bool) -> NoReturn:
    """All is handed over. A sync agent's thread that is still at work can't be stopped, and a new process, or none,
    waits for it no longer."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    if is_worn:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ)
    os._exit(Exit.OK)


def limits_of(max_age: float | None, max_rss: int | None) -> Limits:
    """Raises Usage, MemoryUnknown."""
    try:
        return Limits(age_s=max_age, rss_bytes=None if max_rss is None else max_rss * MEGABYTE)
    except ValueError as error:
        raise Usage(f"--max-age, --max-rss: {error}") from error


def webhook_of(url: str | None, addresses: AgentAddresses) -> Webhook | None:
    """Raises Usage, AddressRefused: it can't be told anything."""
    if url is None:
        return None
    addresses.check_url(url)
    secrets = os.environ.get(WEBHOOK_SECRET, "")
    try:
        read_secrets(secrets)
    except InvalidSecret as error:
        raise Usage(f"{WEBHOOK_SECRET}: {error}") from error
    return Webhook(url, secrets)


def _addresses(allow: Sequence[str], allow_private: bool) -> AgentAddresses:
    """Raises Usage."""
    try:
        return AgentAddresses(tuple(allow), allow_private)
    except ValueError as error:
        raise Usage(f"--agents-allow: {error}") from error


def share_hash_seed(store: str) -> None:
    """A set of strings in a workflow's body must come in the same order on every coordinator, so this process
    becomes one with the cluster's hash seed."""
    take_hash_seed(str(asyncio.run(hash_seed(store))))


def take_hash_seed(seed: str) -> None:
    """Begin again with this one. Once: the environment says when it is done."""
    if os.environ.get(HASH_SEED) != seed:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, HASH_SEED: seed})


def _introduce(about: dict[str, Any], as_json: bool) -> None:
    """What it is, and its effective limits."""
    if as_json:
        output.print_json(about)
        return
    limits = about.pop("limits")
    typer.echo(f"coordinator {about.pop('name')} of app {about.pop('app')} at http://{about.pop('address')}")
    for key, value in about.items():
        typer.echo(f"  {key:13} {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}")
    for key, value in limits.items():
        typer.echo(f"  limit {key:32} {value}")
    sys.stdout.flush()
