"""A workflow: a named, versioned body, its schema, and the digest of the code that it was built from."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pointsman.agents.card import EVENT, NAME
from pointsman.agents.signature import Signature
from pointsman.agents.state_schema import StateSchema, Upcaster
from pointsman.kernel.events import CATALOGUE
from pointsman.kernel.policy.amounts import Budget
from pointsman.kernel.run import Run


@dataclass(frozen=True)
class Workflow:
    """A declared workflow. Calling it calls the function itself."""

    is_workflow: ClassVar[bool] = True

    name: str
    version: int
    function: Callable[..., Coroutine[Any, Any, Any]]
    signature: Signature
    build: str
    budget: Budget | None = None
    """Of a run that is started without one."""
    turns_max: int | None = None
    repeats_max: int | None = None
    state: StateSchema | None = None
    """Of `run.state`."""
    begins_with: str = ""
    """The event whose data its input is, where a subscriber that can't take it would fail the run."""

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return self.function(*args, **kwargs)

    def body(self, run: Run, data: bytes) -> Coroutine[Any, Any, Any]:
        assert self.signature.given is not None
        return self.function(**{self.signature.given: run}, **self.signature.decode_input(data))

    def encode_output(self, value: Any) -> bytes:
        return self.signature.encode_output(value)


def define_workflow(
    function: Callable[..., Coroutine[Any, Any, Any]], *, name: str | None, version: int, bytes_max: int,
    budget: Budget | None = None, turns_max: int | None = None, repeats_max: int | None = None,
    state: Any = None, state_version: int = 1, state_upcasters: Mapping[int, Upcaster] | None = None,
) -> Workflow:  # fmt: skip
    """Raises TypeError or ValueError with what to change."""
    chosen = name or str(getattr(function, "__name__", ""))
    if not NAME.fullmatch(chosen) and not EVENT.fullmatch(chosen):
        raise ValueError(f"{chosen!r} can't name a workflow: 1–64 letters, digits, '_' or '-', a letter first")
    if not 1 <= version < 2**31:
        raise ValueError(f"workflow {chosen}: version={version}: a whole number from 1")
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"workflow {chosen} must be an `async def`")
    signature = Signature(function, given=Run, bytes_max=bytes_max)
    if signature.given is None:
        raise TypeError(f"workflow {chosen} needs a parameter of type Run: `async def {chosen}(run: Run, ...)`")
    for limit, value in (("turns_max", turns_max), ("repeats_max", repeats_max)):
        if value is not None and value < 1:
            raise ValueError(f"workflow {chosen}: {limit}={value}: at least 1, or None for no limit")
    if budget is not None and budget.per is not None:
        raise ValueError(f"workflow {chosen}: a run's budget has no window (per=)")
    if state is None and (state_version != 1 or state_upcasters):
        raise ValueError(f"workflow {chosen}: state_version and state_upcasters say how state= is read; give that too")
    upcasters = state_upcasters or {}
    schema = None if state is None else StateSchema(chosen, state, state_version, upcasters, bytes_max=bytes_max)
    build = build_digest(function)
    return Workflow(chosen, version, function, signature, build, budget, turns_max, repeats_max, schema)


def with_settings(workflow: Workflow, *settings: object) -> Workflow:
    """The same workflow, as another build: what it does depends on these too."""
    build = hashlib.sha256(f"{workflow.build}\n{settings!r}".encode()).hexdigest()[:16]
    return replace(workflow, build=build)


def build_digest(function: Callable[..., Any]) -> str:
    """16 hex digits of the source of the module that the function stands in (of its bytecode where there is no
    source), and of the events that this release knows."""
    module = sys.modules.get(function.__module__)
    try:
        source = inspect.getsource(module) if module is not None else inspect.getsource(function)
    except (OSError, TypeError):
        code = function.__code__
        source = code.co_code.hex() + repr(code.co_names) + repr([c for c in code.co_consts if isinstance(c, str)])
    return hashlib.sha256(f"{CATALOGUE}\n{source}".encode()).hexdigest()[:16]
