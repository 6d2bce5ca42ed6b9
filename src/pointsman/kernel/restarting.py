"""The first event of a run's next generation: all that goes on, so that nothing before it needs to be read again."""

from __future__ import annotations

import msgspec

from pointsman.kernel import entropy
from pointsman.kernel import events as ev
from pointsman.kernel.signals import Signals
from pointsman.kernel.state import RunState


def restarted(state: RunState, signals: Signals, data: bytes) -> ev.RunRestarted:
    """`data` is the input of the next generation."""
    generation = state.generation + 1
    seed = entropy.random_bytes(state.seed, f"generation/{generation}").hex()[: max(len(state.seed), 16)]
    return ev.RunRestarted(
        input=msgspec.Raw(data), generation=generation, workflow=state.workflow,
        workflow_version=state.workflow_version, seed=seed, started_at=state.started_at, tenant=state.tenant,
        parent=state.parent, parent_call=state.parent_call, budget=state.budget, spent=state.spent,
        children=dict(state.children), given=dict(state.given),
        signals=tuple(ev.KeptSignal(name, msgspec.Raw(payload)) for name, payload in signals.kept()),
        folded=state.folded, cancel=state.cancel_reason, redrives=state.redrives,
        state=state.kept,
    )  # fmt: skip
