"""The agent card: how an agent describes itself. In-process agents have theirs from their declaration; others send it
when they register."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from pointsman.kernel.policy.amounts import Budget, Cost
from pointsman.kernel.policy.breaker import Breaker
from pointsman.kernel.policy.budget import check_shared
from pointsman.kernel.policy.retry import Retry

EVENT = re.compile(r"(?=.{1,50}\Z)[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")
EVENT_RULE = "1–50 lower-case letters, digits, '_' or '-', in words with dots between them, a letter first"
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
RESERVED = frozenset({"sleep", "select", "random", "uuid"})
SECONDS_MAX = 1e7
LOCAL, HTTP, PULL = "local", "http", "pull"
"""How agents are reached: a function of the app, a URL, workers that fetch calls."""


def check_event(name: str) -> None:
    """Raises ValueError: it can't name an event."""
    if not EVENT.fullmatch(name):
        raise ValueError(f"{name!r} can't name an event: {EVENT_RULE}")


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an agent's health check is polled, by one coordinator at a time.

    Attributes:
        url: what is asked with GET; any 2xx is well. None for a function, or for no check.
        every: seconds between two checks. timeout: seconds that one may take.
        misses: so many in a row make it unhealthy. successes: so many in a row make it healthy again.
    """

    url: str | None = None
    every: float = 5.0
    timeout: float = 2.0
    misses: int = 3
    successes: int = 2

    def __post_init__(self) -> None:
        if not (0 < self.every <= 3600 and 0 < self.timeout <= 60 and self.misses >= 1 and self.successes >= 1):
            raise ValueError(f"{self}: every 0 to 3600 s, timeout 0 to 60 s, misses and successes at least 1")


class Card(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the runtime knows of an agent. Schemas are JSON Schema 2020-12.

    Attributes:
        url: where it is reached (POST); None: it is a function of the app, or workers fetch its calls.
        transport: `pull`: workers fetch its calls; None: the URL says how it is reached.
        on: events that trigger it, in runs that begin with an event.
        failures: kinds of failure that it names, each with whether a retry may help.
        timeout: seconds for one attempt. heartbeat: seconds without a sign of life that end one; None: not asked for.
        concurrency: attempts at the same time in the whole cluster. rate: attempts per second, likewise. None: no
            limit.
        cost: of one attempt. budget: what all its attempts together may use up.
        idempotent: False: an attempt whose end is unknown is never repeated.
        fallback: agents to turn to when it fails, in order; None: the app's generalist; empty: nobody.
        hold: seconds that a call waits for it (breaker, health, limits) before it is given up.
    """

    name: str
    version: str = "1"
    description: str = ""
    url: str | None = None
    transport: Literal["pull"] | None = None
    capabilities: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    input_schema: dict[str, Any] = {}
    output_schema: dict[str, Any] = {}
    failures: dict[str, bool] = {}
    timeout: float = 30.0
    heartbeat: float | None = None
    concurrency: int | None = None
    rate: float | None = None
    cost: Cost | None = None
    budget: Budget | None = None
    idempotent: bool = True
    fallback: tuple[str, ...] | None = None
    hold: float = 60.0
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    health: Health | None = None

    def check(self) -> None:
        """Raises ValueError: what is wrong with it, and what would be right."""
        if not NAME.fullmatch(self.name) or self.name in RESERVED:
            raise ValueError(
                f"{self.name!r} can't name an agent: 1–64 letters, digits, '_' or '-', a letter first, "
                f"and none of {sorted(RESERVED)}"
            )
        for event in self.on:
            check_event(event)
        if self.transport == PULL and (self.url or (self.health and self.health.url)):
            raise ValueError(
                f"agent {self.name}: its workers come for its calls (transport={PULL!r}): leave out url and health.url"
            )
        for name, value in (("timeout", self.timeout), ("heartbeat", self.heartbeat), ("rate", self.rate)):
            if value is not None and not 0 < value < SECONDS_MAX:
                raise ValueError(f"agent {self.name}: {name}={value}: more than 0, less than {SECONDS_MAX:g}")
        if not 0 <= self.hold < SECONDS_MAX:
            raise ValueError(f"agent {self.name}: hold={self.hold}: seconds, 0 or more")
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError(f"agent {self.name}: concurrency={self.concurrency}: at least 1, or None for no limit")
        if self.fallback is not None and self.name in self.fallback:
            raise ValueError(f"agent {self.name}: it can't be its own fallback")
        if self.budget is not None:
            try:
                check_shared(self.budget)
            except ValueError as error:
                raise ValueError(f"agent {self.name}: {error}") from None
