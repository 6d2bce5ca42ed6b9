"""`Run`: what a workflow's body holds. Every durable thing that a body can do is a method here.

The methods only shape requests; what becomes of them is decided in `requests.py`. Each branch has a `Run` of its
own, and call ids count within the branch, so no interleaving can shift them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pointsman.kernel import entropy
from pointsman.kernel.errors import InvalidValue, SignalTimeout, UnknownAgent
from pointsman.kernel.strands import Handle

if TYPE_CHECKING:
    from pointsman.kernel.requests import Requests
    from pointsman.kernel.state import RunState

T = TypeVar("T")
SECONDS_MAX = 1e10
"""Three hundred years: no timer is longer."""


class Run:
    """One execution of a workflow, seen from inside its body."""

    __slots__ = ("_counts", "_path", "_requests", "_state")

    def __init__(self, requests: Requests, state: RunState, path: str = "") -> None:
        self._requests = requests
        self._state = state
        self._path = path
        self._counts: dict[str, int] = {}

    @property
    def id(self) -> str:
        return self._state.run

    @property
    def tenant(self) -> str:
        return self._state.tenant

    # -- calls ---------------------------------------------------------------------------------------------------

    async def call(self, target: Any, *args: Any, key: str | None = None, **kwargs: Any) -> Any:
        """Call an agent or a child workflow, and wait for what it gives.

        Args:
            target: an agent or workflow, or an agent's name (what `select` gave). A name that does not exist goes
                to the app's generalist, and that is recorded.
            key: a call id of one's own, instead of the target's name and ordinal.

        Raises:
            CallError: it failed for good. UnknownAgent: no such agent, and no generalist. InvalidInput, InvalidValue.
        """
        return await self.start(target, *args, key=key, **kwargs)

    def start(self, target: Any, *args: Any, key: str | None = None, **kwargs: Any) -> Handle[Any]:
        """Like `call`, without waiting: the handle stands for the result."""
        if getattr(target, "is_workflow", False):
            call = self._call_id(f"workflow:{target.name}", key)
            return self._requests.start_child(call, target, args, kwargs)
        name = target if isinstance(target, str) else target.name
        return self._requests.start_call(self._call_id(name, key), name, args, kwargs)

    async def select(self, needs: Sequence[str] | str, *, key: str | None = None) -> str:
        """The name of an agent that has all capabilities in `needs`; else the app's generalist. Recorded.

        Raises:
            UnknownAgent: neither.
        """
        wanted = (needs,) if isinstance(needs, str) else tuple(needs)
        selected = self._requests.select(self._call_id("select", key), wanted)
        if selected is None:
            raise UnknownAgent(f"no agent can do {', '.join(wanted)}, and the app names no generalist")
        return selected

    # -- waiting -------------------------------------------------------------------------------------------------

    async def sleep(self, seconds: float, *, key: str | None = None) -> None:
        """Wait, durably: the run may rest for a year and needs no memory meanwhile."""
        await self.start_sleep(seconds, key=key)

    def start_sleep(self, seconds: float, *, key: str | None = None) -> Handle[None]:
        """A timer to race against other handles."""
        if not 0 <= seconds < SECONDS_MAX:
            raise InvalidValue(f"sleep({seconds}): seconds must be a finite number, 0 or more")
        return self._requests.set_timer(self._call_id("sleep", key), round(seconds * 1000))

    async def wait_for(
        self, signal: str, *, expect: Any = None, timeout: float | None = None, key: str | None = None
    ) -> Any:
        """Wait for a signal of this name; one that came earlier and was not waited for counts.

        Args:
            expect: a type to read the payload as.
            timeout: seconds; None waits for ever.

        Raises:
            SignalTimeout: none came in time.
        """
        if timeout is not None and not 0 <= timeout < SECONDS_MAX:
            raise InvalidValue(f"wait_for(timeout={timeout}): a finite number of seconds, 0 or more")
        call = self._call_id(f"signal:{signal}", key)
        handle = self._requests.await_signal(call, signal, expect)
        if timeout is None:
            return await handle
        timer = self._requests.set_timer(f"{call}/timeout", round(timeout * 1000))
        first = await self.first(handle, timer)
        if first is timer:
            handle.cancel()
            raise SignalTimeout("timeout", f"no signal {signal!r} within {timeout} s", call=call)
        timer.cancel()
        return handle.result()

    async def gather(self, *handles: Handle[Any], return_errors: bool = False) -> list[Any]:
        """The results of all, in the order given. The first failure is raised as soon as it is there, and the others go
        on; with `return_errors`, errors stand in the list in place of results.
        """
        self._check_handles(handles)
        await self._requests.all_of(handles, until_failure=not return_errors)
        return [handle.error if handle.error is not None else handle.result() for handle in handles]

    async def first(self, *handles: Handle[Any]) -> Handle[Any]:
        """The handle that was done first, by the order of the log. The others go on; `cancel` those you don't want."""
        self._check_handles(handles)
        await _AnyOf(self._requests, handles)
        return min((handle for handle in handles if handle.done), key=lambda handle: handle.order)

    def branch(self, name: str, body: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> Handle[T]:
        """Run `body(run, *args)` beside this one, with a `Run` of its own. Nothing of it is recorded but what
        it does."""
        self._count(f"{name}/")
        path = f"{self._prefix(self._path)}{name}/{self._counts[f'{name}/']}"
        return self._requests.start_branch(path, body(Run(self._requests, self._state, path), *args, **kwargs))

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Inside, a cancel is not delivered: for clean-up that must call agents. It comes at the first await after."""
        strand = self._requests.current
        strand.shields += 1
        try:
            yield
        finally:
            strand.shields -= 1

    # -- the world, recorded -------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since 1970 by the database's clock: the time of the event last delivered. Never goes back."""
        return self._state.last_at / 1000

    def random(self) -> float:
        """A float in [0, 1) that is the same in every replay."""
        return entropy.random_float(self._state.seed, self._count("random"))

    def uuid(self) -> str:
        """A random UUID that is the same in every replay."""
        return entropy.random_uuid(self._state.seed, self._count("uuid"))

    # -- names ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _prefix(path: str) -> str:
        return f"{path}." if path else ""

    def _count(self, name: str) -> str:
        self._counts[name] = self._counts.get(name, 0) + 1
        return f"{self._prefix(self._path)}{name}#{self._counts[name]}"

    def _call_id(self, name: str, key: str | None) -> str:
        if key is None:
            return self._count(name)
        if not key or "#" in key or len(key) > 128:
            raise InvalidValue(f"key={key!r}: 1 to 128 characters, and no '#'")
        return self._prefix(self._path) + key

    @staticmethod
    def _check_handles(handles: Sequence[Handle[Any]]) -> None:
        if not handles or not all(isinstance(handle, Handle) for handle in handles):
            raise InvalidValue("give handles, at least one: run.start(...) instead of run.call(...)")


class _AnyOf:
    """Awaitable: until any of the handles is done."""

    __slots__ = ("_handles", "_requests")

    def __init__(self, requests: Requests, handles: Sequence[Handle[Any]]) -> None:
        self._requests = requests
        self._handles = handles

    def __await__(self) -> Any:
        return self._requests.until_any_done(self._handles)
