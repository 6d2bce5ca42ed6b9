"""The other coordinators, as far as this one sends them requests. Must not know why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import msgspec

from pointsman.kernel.errors import StoreUnavailable
from pointsman.ports.agents import AttemptOver

FORWARD_TIMEOUT_S = 2.0


class Peers:
    """The other coordinators, as far as reports of agents have to be passed on to them."""

    def __init__(self, token: str | None) -> None:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(headers=headers, timeout=FORWARD_TIMEOUT_S, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def forward(self, address: str, path: str, body: Mapping[str, Any]) -> None:
        """Raises AttemptOver, StoreUnavailable: it does not answer."""
        try:
            response = await self._http.post(
                f"http://{address}{path}", content=msgspec.json.encode(body),
                headers={"content-type": "application/json"},
            )  # fmt: skip
        except httpx.HTTPError as error:
            raise StoreUnavailable(f"the coordinator at {address} does not answer: {error}") from error
        if response.status_code in (404, 409):
            raise AttemptOver
        if not response.is_success:
            raise StoreUnavailable(f"the coordinator at {address} answers {response.status_code}")
