"""What a body awaits: handles, branches, and the cancel of its run, which is delivered at whichever await it
waits in.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine, Generator, Sequence
from typing import Any

from pointsman.kernel.errors import InvalidValue, PointsmanError, RunCancelled, RunEvicted
from pointsman.kernel.events import Emission
from pointsman.kernel.scheduler import Scheduler
from pointsman.kernel.state import RunState
from pointsman.kernel.strands import Handle, Strand, Wait


class Waiting(ABC):
    """The part of `Requests` that records nothing: it makes strands wait, and wakes them.

    Attributes:
        broken: the disagreement of code and log for which the body is being unwound; None: there is none.
        is_closed: the body has ended or is leaving memory; every further request is refused.
        is_interrupted: broken, closed or cancelled; strands that wait are told so.
    """

    def __init__(self, state: RunState, scheduler: Scheduler) -> None:
        self.broken: PointsmanError | None = None
        self.is_closed = self.is_interrupted = False
        self._state = state
        self._scheduler = scheduler
        self._done = 0
        self._emitted: dict[str, tuple[Emission, ...]] | None = None

    def model_dump(self, **_: object) -> Any:
        """Called by the encoder when it meets a handle in a value, which means that somebody forgot to await it."""
        raise InvalidValue("a Handle is not a JSON value: await it, and pass on what it gives")

    def note_emitted(self, call: str, emitted: tuple[Emission, ...]) -> None:
        """Keep the events that the agent of a call emitted."""
        self._emitted = self._emitted or {}
        self._emitted[call] = emitted

    def emitted_in(self, call: str) -> tuple[Emission, ...]:
        """The events that the agent of a call emitted, in order."""
        return self._emitted.get(call, ()) if self._emitted is not None else ()

    def break_off(self, error: PointsmanError) -> None:
        """Stop the body, because code and log disagree."""
        self.broken, self.is_interrupted = error, True
        self._scheduler.stop()

    def _check_open(self) -> None:
        if self.is_closed or self.broken is not None:
            raise RunEvicted

    @property
    def current(self) -> Strand:
        return self._scheduler.current

    @abstractmethod
    def cancel(self, handle: Handle[Any]) -> None:
        """Give up on what the handle stands for, and record that."""

    def start_branch(self, path: str, coroutine: Coroutine[Any, Any, Any]) -> Handle[Any]:
        if self.is_closed or self.broken is not None:
            coroutine.close()
            raise RunEvicted
        handle: Handle[Any] = Handle(self, path, "branch")
        self._scheduler.spawn(coroutine, handle)
        return handle

    def until_any_done(self, handles: Sequence[Handle[Any]]) -> Generator[Wait, None, None]:
        """Wait. A cancel is delivered here, again at each await, unless the strand is shielded."""
        self.about_to_wait()
        while not any(handle.done for handle in handles):
            yield Wait(handles)
            self.deliver_cancel()

    def about_to_wait(self) -> None:
        """Must be called by a strand before it waits."""
        self._check_open()
        self.deliver_cancel()

    def all_of(self, handles: Sequence[Handle[Any]], *, until_failure: bool) -> Handle[None]:
        """A handle that is done when all are, or fails as the first of them does. Each of them costs one step."""
        latch: Handle[None] = Handle(self, "", "branch")
        waiting = {id(handle): handle for handle in handles if not handle.done}

        def on_done(handle: Handle[Any]) -> None:
            waiting.pop(id(handle), None)
            if latch.done:
                return
            if until_failure and handle.error is not None:
                self.resolve(latch, error=handle.error)
            elif not waiting:
                self.resolve(latch)

        failed = [handle for handle in handles if handle.done and handle.error is not None]
        if until_failure and failed:
            self.resolve(latch, error=min(failed, key=lambda handle: handle.order).error)
        elif not waiting:
            self.resolve(latch)
        else:
            for handle in waiting.values():
                handle.followers += (on_done,)
        return latch

    def deliver_cancel(self) -> None:
        """Must be called by a strand after it has waited. Raises RunCancelled, unless the strand is shielded."""
        if self._state.cancel_reason is not None and not self.current.shields:
            raise RunCancelled(self._state.cancel_reason or "cancelled")

    def resolve(self, handle: Handle[Any], value: Any = None, error: BaseException | None = None) -> None:
        """Make a handle done, and make the strands that wait for it ready."""
        self._done += 1
        self._scheduler.wake(handle.resolve(self._done, value, error))
        if handle.followers:
            followers, handle.followers = handle.followers, ()
            for follow in followers:
                follow(handle)
