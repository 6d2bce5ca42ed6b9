"""The examples, and ways to coordinate agents, as the simulator runs them: what they ask of others is counted."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from pointsman import Context
from pointsman.testing.sim import Aftermath, effect, invariant

ROOT = Path(__file__).parents[2]


def loaded(name: str, source: str) -> Any:
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)  # noqa: S102  that is the test
    return module


def counted(what: str, about: str, ctx: Context) -> str:
    effect(what, key=ctx.idempotency_key)
    return f"{what} {about}"


_orders = loaded("order_saga", (ROOT / "examples" / "order_saga.py").read_text())
_orders.provider = counted
orders = _orders.app
documents = loaded("documents", (ROOT / "examples" / "documents.py").read_text()).app


@invariant(orders)
def an_order_is_done_or_undone(after: Aftermath) -> None:
    for run in after.runs:
        shipped, charged = after.effects_of(run.id, "ship"), after.effects_of(run.id, "charge")
        assert shipped == (run.status == "completed"), f"{run.id} is {run.status}, and shipped {shipped} times"
        if run.status == "failed":
            undone = after.effects_of(run.id, "refund") >= charged and after.effects_of(run.id, "release") == 1
            assert undone, f"{run.id} failed, and was not undone"


_page = (ROOT / "docs" / "howto" / "coordinate-agents.md").read_text()
_programs = re.findall(r"^```python\n(.*?)^```", _page, re.DOTALL | re.MULTILINE)
_plan, _supervised = (source for source in _programs if "house = Plan" in source or "editor(" in source)
coordination = loaded("coordination", _plan + _supervised.replace('app = App("newsroom")', "")).app
