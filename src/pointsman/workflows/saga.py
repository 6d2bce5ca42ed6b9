"""Saga: steps with effects outside, each with a compensation. When one step fails, the earlier ones are undone in
reverse order.

Compensation is as Garcia-Molina and Salem describe it ("Sagas", 1987). A compensation is a call like any other: it is
retried and reassigned by the failure chain, and if a coordinator dies half way through, another one takes over in the
middle.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from pointsman.kernel.errors import CompensationFailed, PointsmanError, RunRestarting
from pointsman.kernel.run import Run


class Saga:
    """`async with Saga(run) as saga:` around the steps; `saga.undo(agent, ...)` for each.

    Say `undo` after a step when it needs the step's result. Say it before the step, with an id of your own
    (`run.uuid()`), when it must also undo a step of which nobody knows whether it happened.

    `run.restart` in the block leaves it as its end does: what was done stays done, and nothing is undone. The next
    generation begins without this saga.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._undo: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def undo(self, target: Any, *args: Any, **options: Any) -> None:
        """Call this agent if the block fails or the run is cancelled. `options` as of `run.call`."""
        self._undo.append((target, args, options))

    async def __aenter__(self) -> Saga:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Undo, last first, if the block failed. A cancel waits until all is undone.

        Raises:
            CompensationFailed: something could not be undone; the rest was. The block's own error is its cause.
        """
        if error is None or isinstance(error, RunRestarting):
            return
        left: list[str] = []
        with self._run.shield():
            while self._undo:
                target, args, options = self._undo.pop()
                try:
                    await self._run.call(target, *args, **options)
                except PointsmanError as failed:
                    left.append(str(failed))
        if left:
            raise CompensationFailed(f"not undone: {'; '.join(left)}; undone because of {error}") from error
