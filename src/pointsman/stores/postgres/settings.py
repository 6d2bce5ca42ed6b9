"""Every limit and interval of a PostgreSQL store, with its unit and why it has its value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """Raises ValueError when a value makes no sense.

    Attributes:
        readers: connections for everything but appends, which have one per lane.
        connect_timeout_s: for one attempt to connect.
        unreachable_s: a call tries to connect for so long before it says StoreUnavailable.
        statement_timeout_s: a statement without an answer for so long loses its connection; its outcome is open.
        plain_json_bytes_max: JSON bodies up to this size stay readable by SQL; beyond it they are compressed.
            Inputs up to 2 KB stay whole in an event, and the rest of the event needs some room.
        hint_interval_ms: hints of at least this long travel in one message.
        listener_check_s: how often the listener must hear itself; a broken one is otherwise silent for ever.
        ring_refresh_ms: how often a watcher looks who lives, and whose lease has expired.
        death_confirm_ms: how long a freed lock must stay free, unless its holder's address refuses connections: then it
            is dead at once. A holder that lost only its connection is back in 50 ms.
        answer_confirm_ms: the same for one whose address answers: its process lives, and may be slow to connect again.
        loop_tick_ms: how often the event loop shows that it runs.
        loop_stall_ms_max: a loop that did not run for so long is hung: the process dumps its stacks and exits.
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
