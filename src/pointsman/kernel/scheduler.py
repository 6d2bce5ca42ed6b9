"""Run strands until all of them wait: in the order in which they became ready, and nothing else decides."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from pointsman.kernel.errors import ForeignAwaitable, RunEvicted
from pointsman.kernel.strands import Handle, Strand, Wait

OnOver = Callable[[Strand, Any, BaseException | None], None]
_AWAITED = (Handle, Wait)
AT_ONCE = "to do several things at once, await run.gather(run.start(agent, ...), run.branch(name, function), ...)"


class Scheduler:
    """The strands of one run. `on_over(strand, value, error)` is told of each that ends by itself.

    Attributes:
        is_running: one of them is being resumed. Whoever asks for something at another time is none of them.
    """

    def __init__(self, on_over: OnOver) -> None:
        self.current: Strand
        self.is_running = False
        self._is_stopped = False
        self._on_over = on_over
        self._strands: list[Strand] = []
        self._ready: deque[Strand] = deque()

    @property
    def waiting(self) -> list[str]:
        """The strands that are not over, by the path of their branch."""
        return [strand.handle.call if strand.handle is not None else "the body" for strand in self._strands]

    def spawn(self, coroutine: Coroutine[Any, Any, Any], handle: Handle[Any] | None) -> None:
        """Add a strand: the body (no handle), or a branch, which is inside the shields of whoever made it."""
        strand = Strand(coroutine, handle, self.current.shields if handle is not None else 0)
        self._strands.append(strand)
        self.wake((strand,))

    def wake(self, strands: Iterable[Strand]) -> None:
        for strand in strands:
            if not strand.is_queued and not strand.is_over:
                strand.is_queued = True
                self._ready.append(strand)

    def wake_all(self) -> None:
        self.wake(self._strands)

    def stop(self) -> None:
        """Resume no strand any more."""
        self._is_stopped = True

    def run(self) -> None:
        """Until every strand waits or is over, or it is stopped."""
        ready = self._ready
        self.is_running = True
        while ready and not self._is_stopped:
            strand = ready.popleft()
            strand.is_queued = False
            if not strand.is_over:
                self.current = strand
                self._resume(strand)
        self.is_running = False

    def close(self) -> None:
        """Let every strand leave memory: the author's `finally` runs."""
        self.stop()
        strands, self._strands = self._strands, []
        for strand in strands:
            self.current = strand
            strand.close()
        self._on_over = _ignore_over  # it holds the body that holds this: a cycle waits for the garbage collector

    def _resume(self, strand: Strand) -> None:
        try:
            asked = strand.coroutine.send(None)
            while not isinstance(asked, _AWAITED):
                asked = strand.coroutine.throw(_refusal(asked))
            asked.wake_then(strand)
        except StopIteration as stop:
            self._over(strand, stop.value, None)
        except RunEvicted:
            self._forget(strand)
        except BaseException as error:  # noqa: BLE001  SystemExit and KeyboardInterrupt too: a body must not end its
            # coordinator, nor each that takes the run over. Ctrl-C comes to the loop, not to a body.
            self._over(strand, None, _explained(error))

    def _over(self, strand: Strand, value: Any, error: BaseException | None) -> None:
        self._forget(strand)
        self._on_over(strand, value, error)

    def _forget(self, strand: Strand) -> None:
        strand.is_over = True
        if strand in self._strands:
            self._strands.remove(strand)


def _ignore_over(strand: Strand, value: Any, error: BaseException | None) -> None:
    """An `OnOver` that does nothing: the run has left memory."""


def _explained(error: BaseException) -> BaseException:
    """`error`; where it is asyncio's refusal of a timeout or a task group, one that says what to do instead."""
    if type(error) is RuntimeError and error.args == ("Timeout should be used inside a task",):
        return ForeignAwaitable(
            "a workflow used asyncio.timeout, which is not durable: declare a timeout of the agent, or await "
            "run.first(run.start(agent, ...), run.start_sleep(seconds))"
        )
    if type(error) is RuntimeError and str(error).endswith("cannot determine the parent task"):
        return ForeignAwaitable(f"a workflow used asyncio.TaskGroup, which is not durable: {AT_ONCE}")
    return error


def _quieten(asked: Any) -> None:
    """Nobody will ask what became of a future of asyncio's: it must not complain of that in the process's log."""
    if getattr(asked, "_asyncio_future_blocking", None) is not None:
        asked.add_done_callback(lambda future: future.cancelled() or future.exception())


def _refusal(asked: Any) -> ForeignAwaitable:
    _quieten(asked)
    what = type(asked).__name__ if asked is not None else "asyncio.sleep(0) or a bare yield"
    return ForeignAwaitable(
        f"a workflow awaited {what}, which is not durable and would be lost with this process: put it into an agent "
        f"and await run.call(agent, ...); to wait, use run.sleep(...); {AT_ONCE}"
    )
