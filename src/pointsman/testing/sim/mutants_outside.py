"""Guards broken on purpose between coordinators and what is outside: workers that fetch calls, a webhook's receiver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from pointsman.coordinator.notices import NoticeDuty
from pointsman.ports.notices import Notice
from pointsman.ports.telling import NotTold
from pointsman.ports.workers import AttemptResult
from pointsman.serving.lines import Lines
from pointsman.testing.sim.patching import patched
from pointsman.transports.pull import PullTransport
from pointsman.transports.pull_line import Waiting


@contextmanager
def no_look_at_attempts() -> Iterator[None]:
    """A worker's result counts for its call, whichever attempt it is of."""

    def careless(self: PullTransport, key: str, attempt: int, result: AttemptResult) -> bool:
        del attempt
        waiting = next((waiting for name, waiting in self._calls.items() if name.key == key), None)
        return waiting is not None and waiting.settle(result)

    with patched(PullTransport, "settle", careless):
        yield


class _Latest:
    """A worker's line to a coordinator, whose latest poll is this one."""

    def __init__(self, line: Any, number: int) -> None:
        self.__dict__.update(line=line.line if isinstance(line, _Latest) else line, number=number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["line"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["line"], name, value)


@contextmanager
def no_number_of_polls() -> Iterator[None]:
    """A worker takes the answer of a poll that a later one has ended."""
    ask = Lines._ask

    async def careless(self: Lines, line: Any, poll: Any) -> None:
        latest: Any = _Latest(line, poll.number)
        await ask(self, latest, poll)

    with patched(Lines, "_ask", careless):
        yield


@contextmanager
def no_call_is_forgotten() -> Iterator[None]:
    """A call that is over stays laid out."""
    forget = PullTransport._forget

    def careless(self: PullTransport, waiting: Waiting) -> None:
        forget(self, waiting)
        self._calls.setdefault(waiting.name, waiting)

    with patched(PullTransport, "_forget", careless):
        yield


@contextmanager
def every_notice_is_settled() -> Iterator[None]:
    """A notice that its receiver did not take is not told again."""

    async def careless(self: NoticeDuty, notice: Notice, error: NotTold) -> None:
        del error
        await self._store.notices.settle([notice.id])

    with patched(NoticeDuty, "_failed", careless):
        yield


@contextmanager
def each_try_has_an_id() -> Iterator[None]:
    """A notice that is told again is another one to its receiver."""

    async def careless(self: NoticeDuty, notice: Notice) -> None:
        assert self._teller is not None
        try:
            await self._teller.tell(f"{notice.id}-{notice.tries}", notice.body)
        except NotTold as error:
            await self._failed(notice, error)
        else:
            await self._store.notices.settle([notice.id])

    with patched(NoticeDuty, "_tell", careless):
        yield


OUTSIDE: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "worker-attempt": no_look_at_attempts,
    "worker-poll-number": no_number_of_polls,
    "worker-call-forgotten": no_call_is_forgotten,
    "notice-until-told": every_notice_is_settled,
    "notice-id": each_try_has_an_id,
}
