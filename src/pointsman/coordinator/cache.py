"""Waiting runs kept in memory: never truth, always bounded. A run that is claimed again at the same sequence needs no
replay."""

from __future__ import annotations

from collections import OrderedDict

from pointsman.kernel.execution import Execution


class ExecutionCache:
    """Least recently used first out, by estimated bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Execution] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, execution: Execution, *, bytes_max: int) -> None:
        """Keep a run that waits; what no longer fits leaves memory."""
        self._kept[execution.state.run] = execution
        self.bytes += execution.size
        while self._kept and self.bytes > bytes_max:
            _, evicted = self._kept.popitem(last=False)
            self.bytes -= evicted.size
            evicted.close()

    def take(self, run: str, sequence: int) -> Execution | None:
        """The run as it was at `sequence`; an older state is dropped."""
        execution = self._kept.pop(run, None)
        if execution is None:
            return None
        self.bytes -= execution.size
        if execution.state.sequence == sequence:
            return execution
        execution.close()
        return None

    def clear(self) -> None:
        for execution in self._kept.values():
            execution.close()
        self._kept.clear()
        self.bytes = 0
