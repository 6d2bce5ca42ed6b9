"""The receiver of a webhook, in virtual time: it refuses, answers late, and its answers are lost. The sender is
production's own, signature included; what it is told is noted."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import aiohttp
import msgspec

from pointsman.agents.addresses import AgentAddresses
from pointsman.testing.sim.faulty import Trace
from pointsman.testing.sim.loop import Process, SimLoop
from pointsman.transports.webhook import ID, SIGNATURE, TIMESTAMP, WebhookTeller

URL = "http://127.0.0.1:9/notices"
KEY = b"0123456789abcdef0123456789abcdef"
TIMEOUT_S = 0.4
POLL_MS, HOLD_MS = 300, 1_000
UNAUTHORIZED, BROKEN, TAKEN = 401, 500, 204


class Told(NamedTuple):
    """What the receiver was told, and under which id."""

    id: str
    body: bytes


class Receiver:
    """One for all coordinators. `is_well`: nothing goes wrong any more."""

    def __init__(self, loop: SimLoop, rng: random.Random, trace: Trace) -> None:
        self.told: list[Told] = []
        self.heard: set[tuple[str, str]] = set()
        """What of which human task."""
        self.is_well = False
        self._loop = loop
        self._rng = rng
        self._trace = trace

    def teller(self, process: Process) -> WebhookTeller:
        """Production's, of one process."""
        clocks = process.clocks
        assert clocks is not None
        return _Teller(self, now=clocks.wall)

    async def take(self, headers: Mapping[str, str], body: bytes) -> int:
        """One request: the status that it is answered."""
        rng = self._rng
        await asyncio.sleep(rng.random() * 0.02)
        fate = "well" if self.is_well or rng.random() < 0.6 else rng.choice(("refused", "late", "answer_lost"))
        if fate != "well":
            self._trace.fault("receiver", f"webhook_{fate}")
        if fate == "refused":
            return BROKEN
        if not _is_signed(headers, body):
            return UNAUTHORIZED
        self._trace.say("receiver", f"TOLD {headers[ID]}")
        self.told.append(Told(headers[ID], body))
        notice = msgspec.json.decode(body)
        self.heard.add((notice["type"], notice["data"]["task"]))
        if fate == "late":
            await asyncio.sleep(TIMEOUT_S * (1 + rng.random()))
        if fate == "answer_lost":
            raise aiohttp.ServerDisconnectedError
        return TAKEN


def _is_signed(headers: Mapping[str, str], body: bytes) -> bool:
    """As the scheme says it, and not as the sender does it."""
    signed = f"{headers[ID]}.{headers[TIMESTAMP]}.".encode() + body
    made = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    return f"v1,{made}" in headers[SIGNATURE].split()


class _Session:
    """As much of an HTTP client as the sender needs."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    @asynccontextmanager
    async def post(self, _url: str, *, data: bytes, headers: Mapping[str, str], **_: Any) -> AsyncIterator[Any]:
        yield SimpleNamespace(status=await self._receiver.take(headers, data))

    async def close(self) -> None:
        """Nothing is held."""


class _Teller(WebhookTeller):
    def __init__(self, receiver: Receiver, **more: Any) -> None:
        super().__init__(URL, [KEY], AgentAddresses(allow=("127.0.0.1",)), timeout_s=TIMEOUT_S, **more)
        self._session = cast("aiohttp.ClientSession", _Session(receiver))
