"""`pointsman retention`: what the buckets hold, and deleting what is old enough by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from pointsman.api.views import time
from pointsman.cli import output
from pointsman.cli.exits import Usage, guarded
from pointsman.cli.options import AsJson, Store
from pointsman.coordinator.retention import DAY_MS, Turn, take_turn
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.ports.retention import Bucket
from pointsman.stores.urls import store_of

DEFAULTS = CoordinatorSettings()


@guarded
def retention(
    store: Store = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Runs that ended longer ago are past retention.", show_default=False)
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Delete them, and drop the buckets that are past. Wants --days.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Runs in one statement.")] = DEFAULTS.retention_batch,
    as_json: AsJson = False,
) -> None:
    """Show what a store keeps, and delete what is past.

    Each week of runs with its size and its oldest open run; nothing is deleted without --apply. Safe
    beside coordinators.
    """
    if store is None:
        raise Usage(
            "--store is missing (or POINTSMAN_STORE): the DSN of the cluster's PostgreSQL, or sqlite:///file.db"
        )
    if apply and days is None:
        raise Usage("--apply deletes runs: say with --days how old they must be")
    turn, buckets, past = asyncio.run(_retain(store, days, batch if apply else 0))
    if as_json:
        output.print_json(
            {
                "buckets": [_described(bucket, past) for bucket in buckets],
                "applied": None
                if turn is None
                else {"deleted": turn.deleted, "moved": turn.moved, "dropped": turn.dropped, "left": turn.left},
            }
        )
        return
    _print(buckets, past)
    if turn is not None:
        typer.echo(f"{turn.deleted} runs deleted, {turn.moved} moved, {len(turn.dropped)} buckets dropped", err=True)
        if turn.left:
            typer.echo(f"not dropped yet: {turn.left} are still in use; the next turn tries again", err=True)


async def _retain(url: str, days: int | None, batch: int) -> tuple[Turn | None, list[Bucket], list[int]]:
    """Raises: StoreUnavailable, SchemaMissing, SchemaFromFuture, SchemaDiffers."""
    store = store_of(url)
    await store.open()
    try:
        turn = None
        before = store.clock.now() - (days or 0) * DAY_MS
        if batch:
            turn = await take_turn(store.retention, before, batch=batch, pause=_rest)
        return turn, await store.retention.buckets(), [] if days is None else await store.retention.past(before)
    finally:
        await store.close()


async def _rest() -> None:
    await asyncio.sleep(DEFAULTS.retention_pause_ms / 1000)


def _described(bucket: Bucket, past: Sequence[int]) -> dict[str, Any]:
    return {
        "bucket": bucket.number,
        "starts_at": time(bucket.starts_at),
        "runs": bucket.runs,
        "open_runs": bucket.open_runs,
        "oldest_open": None if bucket.oldest_open is None else time(bucket.oldest_open),
        "bytes": bucket.size,
        "past": bucket.number in past,
    }


def _print(buckets: Sequence[Bucket], past: Sequence[int]) -> None:
    out = output.table(["bucket", "week of", "runs", "open", "oldest open", "MB", ""], right=("runs", "open", "MB"))
    for bucket in buckets:
        row = _described(bucket, past)
        out.add_row(
            str(bucket.number), row["starts_at"][:10], f"{bucket.runs:,}", f"{bucket.open_runs:,}",
            row["oldest_open"] or "", f"{bucket.size / 1e6:,.1f}", "past" if row["past"] else "",
        )  # fmt: skip
    output.print_table(out)
