"""Handles and strands: the kernel's own concurrency, driven by hand with `send()`.

A strand is one coroutine of a run: its body, or a branch of it. It waits on handles and becomes ready when one of them
is done. Ready strands run in the order in which they became ready. There is no event loop and there are no tasks, so
timing can't change the order.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from pointsman.kernel.errors import RunEvicted

if TYPE_CHECKING:
    from pointsman.kernel.events import Emission
    from pointsman.kernel.program import Signature
    from pointsman.kernel.waiting import Waiting

T = TypeVar("T")


class Wait:
    """Yielded by a strand to the kernel in order to wait for any of several handles. Apart from this a strand may yield
    only a single handle.
    """

    __slots__ = ("handles",)

    def __init__(self, handles: Sequence[Handle[Any]]) -> None:
        self.handles = handles

    def wake_then(self, strand: Strand) -> None:
        """Wake this strand once one of the handles is done."""
        for handle in self.handles:
            handle.wake_then(strand)


class Handle(msgspec.Struct, Generic[T], eq=False):
    """The pending result of something that a run has started. Await it, or pass it to `run.gather` or `run.first`.

    It is a struct because every call makes one, and a struct's defaults cost nothing.

    Attributes:
        signature: how the result of a call is read.
        order: when the handle was done, counted over the run; `run.first` goes by it. 0 while it is not done.
        error: the error that it ended with, if it did.
        followers: called when the handle is done, after its waiters were woken.
    """

    _requests: Waiting
    call: str
    kind: str
    signature: Signature | None = None
    order: int = 0
    error: BaseException | None = None
    waiters: tuple[Strand, ...] = ()
    followers: tuple[Callable[[Handle[Any]], None], ...] = ()
    _value: Any = None

    def __repr__(self) -> str:
        return f"<Handle {self.call} ({self.kind}), {'done' if self.done else 'waiting'}>"

    @property
    def done(self) -> bool:
        return self.order > 0

    def result(self) -> T:
        """The handle's value, or raise the error that it ended with. Call it only once the handle is done."""
        if self.error is not None:
            raise self.error
        value: T = self._value
        return value

    @property
    def emitted(self) -> tuple[Emission, ...]:
        """The events that the agent of the call emitted, once the handle is done. Those of failed attempts do not
        count.
        """
        return self._requests.emitted_in(self.call)

    def cancel(self) -> None:
        """Give up on the handle. A call under way is cancelled at its agent; awaiting the handle raises `CallError`."""
        self._requests.cancel(self)

    def wake_then(self, strand: Strand) -> None:
        """Wake this strand once the handle is done. For the kernel only."""
        if strand not in self.waiters:
            self.waiters += (strand,)

    def resolve(self, order: int, value: Any, error: BaseException | None) -> tuple[Strand, ...]:
        """Make the handle done, and return the strands that waited for it. For the kernel only."""
        self.order, self._value, self.error = order, value, error
        woken, self.waiters = self.waiters, ()
        return woken

    def __await__(self) -> Generator[Handle[T], None, T]:
        requests = self._requests
        if requests.is_interrupted:
            requests.about_to_wait()
        while not self.order:
            yield self
            if requests.is_interrupted:
                requests.deliver_cancel()
        return self.result()


class Strand:
    """One coroutine of a run, with the kernel's notes on it."""

    __slots__ = ("coroutine", "handle", "is_over", "is_queued", "shields")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], handle: Handle[Any] | None, shields: int = 0) -> None:
        self.coroutine = coroutine
        self.handle = handle
        """The branch's handle; None for the body."""
        self.shields = shields
        """How many `run.shield()` it is inside."""
        self.is_queued = False
        self.is_over = False

    def close(self) -> None:
        """Close the coroutine. The author's `finally` blocks run; anything that they do with `run` is refused."""
        self.is_over = True
        try:
            self.coroutine.close()
        except (RunEvicted, RuntimeError):
            # RuntimeError: the body awaited again while closing. It is leaving memory either way.
            return
        except Exception:  # noqa: BLE001
            # An error in the author's clean-up while the run leaves memory has no effect on the run: it is not over.
            return
