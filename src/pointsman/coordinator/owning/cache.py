"""Waiting runs kept in memory: a bounded cache, never the truth.

A run needs no replay if it is at the sequence at which it was cached, and this is the first claim since then.
"""

from __future__ import annotations

from collections import OrderedDict

from pointsman.kernel.execution import Execution
from pointsman.ports.runs import RunView


class ExecutionCache:
    """Evicts the least recently used runs, by estimated bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Execution, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, execution: Execution, epoch: int, *, bytes_max: int) -> None:
        """Keep a waiting run that was driven under this epoch; what no longer fits leaves memory."""
        self._kept[execution.state.run] = execution, epoch
        self.bytes += execution.size
        while self._kept and self.bytes > bytes_max:
            _, (evicted, _) = self._kept.popitem(last=False)
            self.bytes -= evicted.size
            evicted.close()

    def take(self, run: str, sequence: int, epoch: int) -> Execution | None:
        """Take the run as it was at `sequence`, for a claim that raised its epoch to `epoch`; any other cached state is
        dropped.

        The sequence alone is not enough: a repair puts another event in the place of the last one, and raises the epoch
        once more.
        """
        execution, driven_under = self._kept.pop(run, (None, 0))
        if execution is None:
            return None
        self.bytes -= execution.size
        if execution.state.sequence == sequence and driven_under + 1 == epoch:
            return execution
        execution.close()
        return None

    def clear(self) -> None:
        for execution, _ in self._kept.values():
            execution.close()
        self._kept.clear()
        self.bytes = 0


class RecentEnds:
    """Results of runs that ended here lately, bounded in number and bytes; the oldest are evicted first.

    None is returned after `age_max_ms`, which is far less than the shortest retention: after that the id may belong to
    another run that is driven elsewhere.
    """

    def __init__(self, count_max: int, bytes_max: int, age_max_ms: int) -> None:
        self._views: OrderedDict[str, RunView] = OrderedDict()
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._age_max_ms = age_max_ms
        self._bytes = 0

    def get(self, run: str, now: int) -> RunView | None:
        """`now`: ms by the store's clock, as a run's end is."""
        view = self._views.get(run)
        if view is None or now - (view.head.ended_at or 0) > self._age_max_ms:
            return None
        return view

    def put(self, view: RunView) -> None:
        before = self._views.pop(view.head.id, None)
        if before is not None:
            self._bytes -= _size(before)
        self._views[view.head.id] = view
        self._bytes += _size(view)
        while len(self._views) > self._count_max or (self._bytes > self._bytes_max and self._views):
            self._bytes -= _size(self._views.popitem(last=False)[1])


def _size(view: RunView) -> int:
    return 500 + (len(bytes(view.output)) if view.output is not None else 0)
