"""The mailbox on Redis: see `ports/mailbox.py` for what it promises."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pointsman.kernel.errors import DuplicateMail, RunEnded, UnknownRun
from pointsman.ports.mailbox import Mail
from pointsman.stores.checks import check_text
from pointsman.stores.redis.session import Blobs, Session

_decoder = msgspec.msgpack.Decoder(tuple[str, str, bytes])


class RedisMailbox:
    def __init__(self, session: Session) -> None:
        self._session = session

    async def post(self, run: str, key: str, kind: str, body: bytes) -> int:
        check_text(run, key, kind)
        blobs = Blobs()
        packed = blobs.add(packed_mail(key, kind, body))
        answer: bytes = await self._session.call("mailbox.post", blobs, run=run, key=key, packed=packed)
        if answer == b"unknown":
            raise UnknownRun(f"no run has the id {run!r}")
        if answer == b"duplicate":
            raise DuplicateMail
        if answer == b"ended":
            raise RunEnded
        return int(answer)

    async def read(self, run: str, *, after: int) -> list[Mail]:
        return [_mail(raw) for raw in await self._session.call("mailbox.read", run=run, after=max(after, 0))]

    async def find(self, run: str, key: str) -> Mail | None:
        raw = await self._session.call("mailbox.find", run=run, key=key)
        return None if raw is None else _mail(raw)

    async def unread(self, owner: int) -> Mapping[str, int]:
        return {run.decode(): int(mail) for run, mail in await self._session.call("mailbox.unread", owner=str(owner))}


def packed_mail(key: str, kind: str, body: bytes) -> bytes:
    return msgspec.msgpack.encode((key, kind, bytes(body)))


def _mail(raw: bytes) -> Mail:
    number, at, packed = raw.split(b" ", 2)
    key, kind, body = _decoder.decode(packed)
    return Mail(number=int(number), key=key, kind=kind, body=body, at=int(at))
