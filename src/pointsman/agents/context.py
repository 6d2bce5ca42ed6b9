"""What an agent knows about its attempt, and what it can report while it is at work."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from pointsman.agents.card import EVENT, EVENT_RULE
from pointsman.agents.signature import decode_as
from pointsman.kernel.errors import InvalidValue
from pointsman.kernel.events import Emission
from pointsman.kernel.policy.amounts import COUNT_MAX, MICROS, Amount, micros
from pointsman.kernel.values import encode

EFFECT_NAME_CHARS_MAX = 128
EVENT_BYTES_MAX = 2**31
"""The app's own limit is that of the attempt, where it ends."""
RESERVED_EVENTS = ("agent.", "run.")
USD_MAX = COUNT_MAX / MICROS


class AttemptRuntime(Protocol):
    """What stands behind a Context: the dispatcher for an agent in process, the API for one behind HTTP."""

    def heartbeat(self) -> None: ...

    def spend(self, amount: Amount) -> None: ...

    def emit(self, emission: Emission) -> None:
        """Keep it until the attempt has ended well; it counts for nothing else."""
        ...

    @property
    def emitted(self) -> tuple[Emission, ...]:
        """All that was, in its order."""
        ...

    async def find_effect(self, name: str) -> bytes | None:
        """The value recorded under this name for this call, by any attempt. Raises StoreUnavailable."""
        ...

    async def record_effect(self, name: str, value: bytes) -> bytes:
        """Record it, durably; the first wins. Returns the value that stands. Raises RunEnded, StoreUnavailable."""
        ...


class Context(msgspec.Struct, frozen=True):
    """What an agent knows of its attempt, and can report during it. An agent asks for it with a parameter of this type.

    Attributes:
        attempt: tries of this call, over all agents that had it, from 1.
        idempotency_key: the same on every attempt and every coordinator; hand it to whatever has effects.
        epoch: the owner number of the run; an agent that keeps state may refuse a lower one than it has seen.
        deadline: `time.monotonic()` seconds of this process by which the attempt is given up.
        runtime: filled in by whoever calls the agent; without one (a unit test) nothing is recorded anywhere.
    """

    run: str
    call: str
    attempt: int
    idempotency_key: str
    epoch: int
    deadline: float
    tenant: str = "default"
    runtime: AttemptRuntime | None = None

    def heartbeat(self) -> None:
        """Report that the attempt is alive. Only agents with `heartbeat=` on their card need to."""
        if self.runtime is not None:
            self.runtime.heartbeat()

    def spend(self, *, usd: float = 0.0, tokens: int = 0) -> None:
        """Report what the attempt has used up, in addition to earlier reports. Budgets are settled with it, even if the
        attempt fails later.

        Raises:
            ValueError: a negative or infinite amount.
        """
        if type(tokens) is not int or not (0 <= usd <= USD_MAX and 0 <= tokens <= COUNT_MAX):
            raise ValueError(f"spend(usd={usd}, tokens={tokens}): finite amounts, 0 or more; tokens are whole")
        if self.runtime is not None:
            self.runtime.spend(Amount(usd_micros=micros(usd), tokens=tokens))

    def emit(self, event: str, data: Any = None) -> None:
        """Emit an event. The agents that subscribe to it (`app.on`) are called with `data` once this attempt has
        returned its result; events of an attempt that fails are dropped.

        Args:
            data: plain data, dataclasses or pydantic models. The result and all events of the attempt together are
                subject
                to the app's `value_bytes_max`.

        Raises:
            InvalidValue: not a valid event name, a name that is reserved (`agent.`, `run.`), or data that is not JSON.
        """
        if not EVENT.fullmatch(event):
            raise InvalidValue(f"emit({event!r}): {EVENT_RULE}")
        if event.startswith(RESERVED_EVENTS):
            raise InvalidValue(f"emit({event!r}): events of {' and '.join(RESERVED_EVENTS)} are the runtime's own")
        emission = Emission(event, msgspec.Raw(encode(data, bytes_max=EVENT_BYTES_MAX)))
        if self.runtime is not None:
            self.runtime.emit(emission)

    async def once(self, name: str, effect: Callable[[], Any], *, expect: Any = None) -> Any:
        """Perform an effect that a retry of this call does not repeat, whichever agent or coordinator makes the retry.

        The result of `effect` (sync or async, JSON) is recorded durably under `name` before this returns. Every later
        attempt gets the recorded result, and `effect` is not called. There is one gap: if the process dies after the
        effect and before its record, the effect is repeated, with the same idempotency key. Exactly once is possible
        only if effect and record are in one transaction: `once_in_transaction`.

        Args:
            expect: a type to read the result as.

        Raises:
            InvalidValue: a name or a result that can't be recorded. RunEnded: nothing waits for this call any more.
        """
        if not name or len(name) > EFFECT_NAME_CHARS_MAX:
            raise InvalidValue(f"once({name!r}): a name of 1 to {EFFECT_NAME_CHARS_MAX} characters")
        data = await self.runtime.find_effect(name) if self.runtime is not None else None
        if data is None:
            value = effect()
            data = encode(await value if inspect.isawaitable(value) else value)
            if self.runtime is not None:
                data = await self.runtime.record_effect(name, data)
        return decode_as(expect, data)
