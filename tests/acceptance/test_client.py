"""A client follows a run, and gets its result, whoever of the cluster is killed meanwhile."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from pointsman import AsyncClient, Client
from tests.support.fleet import Member, fleet

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
APP = "tests.acceptance.takeover_app:app"
KILLED_AT = 20
"""The sequence at which its coordinator is killed, in the middle of the run."""


def url(member: Member) -> str:
    return f"http://{member.address}"


def followed(address: str, run: str) -> list[int]:
    with Client(address) as client:
        return [event.sequence for event in client.follow(run)]


async def test_a_run_is_followed_through_the_kill_of_its_coordinator(
    fresh_database: str, tmp_path: Path, noted: Path, enough: Path
) -> None:
    async with fleet(fresh_database, APP, tmp_path) as members:
        router = await members.router()
        victim = await members.coordinator("a", routers=[router])
        port = victim.port
        async with AsyncClient(url(router)) as client, AsyncClient(url(victim)) as direct:
            run = (await client.start("endless", id="followed")).id
            # One follows through the router, in a thread; its result is waited for at the victim itself.
            through = asyncio.create_task(asyncio.to_thread(followed, url(router), run))
            result = asyncio.create_task(direct.result(run, int, timeout=60))
            await members.coordinator("b", routers=[router])
            at_victim: list[int] = []
            async for event in direct.follow(run):
                at_victim.append(event.sequence)
                if event.sequence == KILLED_AT:
                    assert (await victim.leave(signal.SIGKILL))[0] == -signal.SIGKILL
                    # Its address is taken by another, which knows the run as well as the dead one did.
                    await members.coordinator("c", "--port", str(port), routers=[router])
                    enough.touch()
            steps = await result
            head = await client.get(run)
            events = [event async for event in client.events(run, page=7)]
        async with asyncio.timeout(30):
            at_router = await through
    assert (head.status, head.epoch > 1, head.takeovers) == ("completed", True, 0)
    assert [event.sequence for event in events] == list(range(1, head.sequence + 1))
    assert at_victim == at_router == [event.sequence for event in events]
    assert events[-1].type == "RunCompleted"
    assert [event.type for event in events].count("CallCompleted") == steps
