"""Announcements: whatever is the matter with one router, the others go on hearing, and it is told what is wrong."""

from __future__ import annotations

import asyncio
import json

import httpx

from pointsman import App, CoordinatorSettings
from pointsman.node.announcing import UNHEARD_TIMES, Announcer
from pointsman.router import RouterService, RouterSettings
from pointsman.stores.memory.store import MemoryStore


async def test_a_router_that_fails_in_an_odd_way_keeps_no_other_from_hearing(caplog) -> None:
    """Not every failure of an HTTP client is one of its errors, and who falls silent for ever gets no work."""
    router = RouterService(RouterSettings())
    await router.start()
    coordinator = App("quiet").coordinator(MemoryStore(), CoordinatorSettings(name="a"))
    await coordinator.start()
    url = f"http://127.0.0.1:{router.port}"
    announcer = Announcer(coordinator, "127.0.0.1:1", [url, "http://odd\x01"], None)
    try:
        await announcer.start()
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            rows = json.loads((await client.get("/router/coordinators")).content)["coordinators"]
        assert [row["name"] for row in rows] == ["a"]
        async with asyncio.timeout(10):
            while "does not hear us: Invalid non-printable" not in caplog.text:
                await asyncio.sleep(0.02)
        assert UNHEARD_TIMES > 1, "it was tried again and again"
    finally:
        await announcer.leave()
        await coordinator.stop()
        await router.stop()
