"""A webhook, signed by the scheme of Standard Webhooks: HMAC-SHA256 over `{id}.{timestamp}.{body}`, in three headers.

One try is one POST. Its id is the notice's, the same at every try, so that a receiver can drop what it has had; its
timestamp is that of the try, so that a receiver can refuse what is repeated much later.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence

import aiohttp
from aiohttp.abc import AbstractResolver

from pointsman.agents.addresses import AddressRefused, AgentAddresses
from pointsman.kernel.values import faithful
from pointsman.ports.telling import NotTold
from pointsman.transports.http_connections import Trip, failure_of, open_session

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
SECRET_PREFIX = "whsec_"
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
TIMEOUT_S = 15.0
GONE = 410


class InvalidSecret(ValueError):
    """A webhook's secret is `whsec_` and base64 of 24 to 64 bytes."""


def read_secrets(text: str) -> tuple[bytes, ...]:
    """The keys of a text with one secret, or several with blanks between: while one takes the place of another, each
    signs.

    Raises:
        InvalidSecret: it says what is wanted, and not what was given.
    """
    keys = []
    for number, secret in enumerate(text.split(), 1):
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not secret.startswith(SECRET_PREFIX) or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
            raise InvalidSecret(
                f"secret {number}: {SECRET_PREFIX} and base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes is "
                "wanted"
            )
        keys.append(key)
    if not keys:
        raise InvalidSecret(f"a webhook needs a secret: {SECRET_PREFIX} and base64 of {SECRET_BYTES_MIN} bytes or more")
    return tuple(keys)


def signature(key: bytes, notice: str, timestamp: int, body: bytes) -> str:
    """What one key says of a try."""
    signed = hmac.digest(key, f"{notice}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


class WebhookTeller:
    """Implements `ports.telling.Teller` over HTTP.

    Args:
        keys: what `read_secrets` gave.
        addresses: where it may be: as agents.
        timeout_s: of one try, connection included.
        resolver: of host names; None: the operating system's.
        now: seconds since 1970, by the machine's clock: receivers compare it with theirs.

    Raises:
        AddressRefused: nothing may be sent to this URL.
    """

    def __init__(
        self, url: str, keys: Sequence[bytes], addresses: AgentAddresses, *, timeout_s: float = TIMEOUT_S,
        resolver: AbstractResolver | None = None, now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        addresses.check_url(url)
        self._url = url
        self._keys = tuple(keys)
        self._addresses = addresses
        self._timeout_s = timeout_s
        self._resolver = resolver
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def tell(self, notice: str, body: bytes) -> None:
        """See `ports.telling.Teller`."""
        if self._session is None:
            self._session = open_session(self._addresses, keep=False, resolver=self._resolver)
        timestamp = int(self._now())
        headers = {
            "Content-Type": "application/json", ID: notice, TIMESTAMP: str(timestamp),
            SIGNATURE: " ".join(signature(key, notice, timestamp, body) for key in self._keys),
        }  # fmt: skip
        trip = Trip()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.post(
                    self._url, data=body, headers=headers, allow_redirects=False, trace_request_ctx=trip
                ) as response,
            ):
                status = response.status
        except (aiohttp.ClientError, OSError, AddressRefused) as error:
            raise NotTold(faithful(failure_of(error, self._url, trip))) from error
        if not 200 <= status < 300:
            raise NotTold(f"it answered {status}", is_final=status == GONE)
