"""Effects that agents recorded (`ctx.once`). They are mail of the run, so that the first one counts on whichever
coordinator it arrives, and a stale attempt can't overwrite it.
"""

from __future__ import annotations

from pointsman.coordinator.driving import mail as mails
from pointsman.kernel.errors import CorruptLog, DuplicateMail
from pointsman.ports.mailbox import Mailbox


class Effects:
    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def find(self, run: str, key: str, name: str) -> bytes | None:
        """The recorded value. `key`: of the call's attempts. Raises StoreUnavailable."""
        found = await self._mailbox.find(run, mails.effect_key(key, name))
        return None if found is None else mails.effect_value(found)

    async def record(self, run: str, call: str, key: str, name: str, value: bytes) -> tuple[bytes, bool]:
        """Record a value unless there is one already. Returns the recorded value, and whether this call recorded it.

        Raises:
            RunEnded, UnknownRun, StoreUnavailable.
        """
        try:
            body = mails.effect(call, name, value)
            await self._mailbox.post(run, mails.effect_key(key, name), mails.EFFECT, body)
        except DuplicateMail:
            stands = await self.find(run, key, name)
            if stands is None:
                raise CorruptLog(f"run {run}: the effect {name!r} of {call} was recorded, and is gone") from None
            return stands, False
        return value, True
