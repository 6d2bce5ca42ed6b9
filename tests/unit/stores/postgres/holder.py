"""A process of its own that holds a lease and owns a run; see test_liveness.py."""

import argparse
import asyncio
import time

from pointsman.ports.event_log import Append, NewEvent, NewRun
from pointsman.ports.ownership import Definition
from pointsman.stores.postgres import PostgresSettings, PostgresStore


def block_the_loop() -> None:
    time.sleep(60)


async def hold(arguments: argparse.Namespace) -> None:
    store = PostgresStore(arguments.dsn, PostgresSettings(loop_stall_ms_max=500 if arguments.hang else 20_000))
    await store.open()
    definitions = [Definition("support", 1, "build")]
    lease = await store.liveness.register(arguments.name, "", definitions, ttl_ms=arguments.ttl_ms)
    append = Append(
        run=arguments.run, epoch=1, expected=0, nonce=b"12345678", events=[NewEvent("RunStarted", 1, 0, b"{}")],
        status="running", owner=lease.incarnation, create=NewRun("support", 1, "build", store.bucket(), "digest"),
    )  # fmt: skip
    await store.log.append([append])
    print(lease.incarnation, flush=True)
    if arguments.hang:
        block_the_loop()
    await lease.lost()
    print("lost", flush=True)
    await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("dsn")
    parser.add_argument("--name", default="holder")
    parser.add_argument("--run", default="held")
    parser.add_argument("--ttl-ms", type=int, default=3_000)
    parser.add_argument("--hang", action="store_true")
    asyncio.run(hold(parser.parse_args()))
