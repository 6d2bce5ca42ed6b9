"""Every limit and interval of a PostgreSQL store, with its unit and why it has its value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """The limits and intervals of a PostgreSQL store. Raises ValueError if a value makes no sense.

    Attributes:
        readers: connections for everything but appends, which have one per lane.
        connect_timeout_s: how long one attempt to connect may take.
        unreachable_s: how long a call tries to connect before it raises StoreUnavailable.
        statement_timeout_s: a statement without an answer for this long loses its connection; its outcome is unknown.
        plain_json_bytes_max: JSON bodies up to this size stay readable by SQL; larger ones are compressed. Inputs of up
            to 2 KB stay readable in their event, whose other fields need some room too.
        hint_interval_ms: hints are sent at most this often, as many in one message as fit.
        listener_check_s: how often the listener must receive its own message; otherwise a broken one would go
            unnoticed.
        ring_refresh_ms: how often a watcher checks which coordinators live, and whose leases have expired.
        death_confirm_ms: how long a freed lock must stay free before its holder counts as dead; if the holder's address
            refuses connections, it is dead at once. A holder that lost only its connection is back in 50 ms.
        answer_confirm_ms: the same if the holder's address answers: its process lives, and may be slow to connect
            again.
        loop_tick_ms: how often the event loop shows that it runs.
        loop_stall_ms_max: an event loop that did not run for this long is hung: the process dumps its stacks and exits.
        loop_stall_exits: False only stops renewing the lease (for tests, and for embedding in a larger program).
    """

    readers: int = 4
    connect_timeout_s: float = 2.0
    unreachable_s: float = 2.0
    statement_timeout_s: float = 10.0
    plain_json_bytes_max: int = 2_560
    hint_interval_ms: int = 10
    listener_check_s: float = 3.0
    ring_refresh_ms: int = 500
    death_confirm_ms: int = 150
    answer_confirm_ms: int = 2_000
    loop_tick_ms: int = 50
    loop_stall_ms_max: int = 2_000
    loop_stall_exits: bool = True

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, bool) and not value > 0:
                raise ValueError(f"{field.name}={value}: must be more than 0")
