"""The report on a run that ends its coordinators. It is made from the log alone, because driving the body may be what
kills them.
"""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.kernel.errors import PointsmanError, PoisonedRun
from pointsman.kernel.events import Recorded
from pointsman.kernel.redriving import facts_of, folded, in_force
from pointsman.ports.event_log import Head
from pointsman.ports.ownership import Victim

CALLS_SHOWN = 10


def verdict(head: Head, events: Sequence[Recorded], victims: Sequence[Victim]) -> PoisonedRun:
    """The report: how many coordinators died, which of them during the run's trials, and which calls were under way."""
    calls = _under_way(head.id, head.base, events)
    names = ", ".join(f"{victim.name} (incarnation {victim.incarnation})" for victim in victims) or "none"
    return PoisonedRun(
        f"{head.takeovers} coordinators died with it, one after the other and without progress of it; in its trials: "
        f"{names}. Under way: {calls}. Deploy code that does not end its process, block its "
        "event loop or fill its memory, then `pointsman runs release`"
    )


def _under_way(run: str, base: int, events: Sequence[Recorded]) -> str:
    """The calls without an outcome in the log's last generation, except those that a redrive voided."""
    rows = [row for row in events if row.sequence >= base]
    if not rows:
        return "no call"
    try:
        state = folded(run, in_force(facts_of(rows)))
    except (PointsmanError, LookupError) as error:
        return f"unknown ({error})"
    calls = [f"{call.call} (agent {call.target}, attempt {call.attempt})" for call in state.calls.values()]
    return ", ".join(calls[:CALLS_SHOWN]) or "no call"
