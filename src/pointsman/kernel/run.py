"""`Run`: the object that a workflow's body works with. Each durable operation of a body is a method here.

The methods only shape requests; `requests.py` decides what becomes of them. Each branch has a `Run` of its own and
counts its call ids itself, so the ids do not depend on how branches interleave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pointsman.kernel import entropy
from pointsman.kernel.asking import SECONDS_MAX, Question
from pointsman.kernel.errors import InvalidValue, PointsmanError, SignalTimeout, UnknownAgent
from pointsman.kernel.events import PlannedTask
from pointsman.kernel.people import AsksPeople
from pointsman.kernel.policy.amounts import Budget
from pointsman.kernel.selecting import is_agent, selector_key
from pointsman.kernel.strands import Handle
from pointsman.kernel.typed_state import NOT_GIVEN
from pointsman.kernel.wanted import AS_USUAL, NO_DEFAULT, as_wanted

if TYPE_CHECKING:
    from pointsman.kernel.requests import Requests
    from pointsman.kernel.state import RunState

T = TypeVar("T")
KEY_CHARS_MAX = 128
"""Of the `key` of a call."""
_from_one = partial(count, 1)


class Run(AsksPeople):
    """One execution of a workflow, as its body sees it."""

    __slots__ = ("_numbers", "_prefix", "_requests", "_state", "_suffix")

    def __init__(self, requests: Requests, state: RunState, path: str = "") -> None:
        self._requests = requests
        self._state = state
        self._prefix = f"{path}." if path else ""
        self._suffix = f"@{state.generation}" if state.generation > 1 else ""
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(_from_one)
        """Of each name, how often it was used in this branch, the next time included."""

    @property
    def id(self) -> str:
        return self._state.run

    @property
    def tenant(self) -> str:
        return self._state.tenant

    # -- calls ---------------------------------------------------------------------------------------------------

    async def call(
        self, target: Any, *args: Any, key: str | None = None, fallback: Sequence[Any] | None = None,
        person: str | Question = "", default: Any = NO_DEFAULT, optional: str = "", priority: int = 0,
        budget: Budget | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """Call an agent or a child workflow and wait for its result.

        Args:
            target: an agent, a workflow, or the name of an agent (as `select` returns it). A call to a name that does
                not
                exist goes to the app's generalist, and this is recorded.
            key: an explicit call id, in place of the target's name and ordinal.
            fallback: agents that get the call in turn when this one fails or can't take it, in place of those on its
                card.
            person: a question (a `Question` if it has an assignee or expires). When no agent is left, a person is
                asked,
                and the answer is the result.
            default: the result to go on with when nobody could do the call, in place of a CallError; in mode emergency
                it
                is used at once. A value of the agent's type, or any JSON.
            optional: "memory" or "evaluation": the workflow can do without this call. Unless the cluster's mode is
                full,
                the agent is not called: the result is `default`, or CallError (`omitted`) if there is no default.
            priority: calls with a higher priority go first when calls wait for an agent's limits.
            budget: of a child workflow, taken out of this run's own. Default: half of what is left.

        Raises:
            CallError: the call failed for good; `kind` says how (see kernel/policy/failures.py). UnknownAgent: there is
                no
            such agent, and no generalist. InvalidInput, InvalidValue.
        """
        return await self._request(
            target, args, kwargs, key, fallback, person, default, optional, priority, budget
        )  # fmt: skip

    def start(
        self, target: Any, *args: Any, key: str | None = None, fallback: Sequence[Any] | None = None,
        person: str | Question = "", default: Any = NO_DEFAULT, optional: str = "", priority: int = 0,
        budget: Budget | None = None, **kwargs: Any,
    ) -> Handle[Any]:  # fmt: skip
        """Start a call without waiting for it, with the arguments of `call`. Awaiting the handle gives the result."""
        return self._request(target, args, kwargs, key, fallback, person, default, optional, priority, budget)

    def _request(
        self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], key: str | None,
        fallback: Sequence[Any] | None, person: str | Question, default: Any, optional: str, priority: int,
        budget: Budget | None,
    ) -> Handle[Any]:  # fmt: skip
        is_usual = fallback is None and not person and default is NO_DEFAULT and not (priority or optional)
        if getattr(target, "is_workflow", False):
            if not is_usual:
                raise InvalidValue("fallback, person, default, optional and priority are for calls of agents")
            call = self._call_id(f"workflow:{target.name}", key)
            return self._requests.start_child(call, target, args, kwargs, budget)
        if budget is not None:
            raise InvalidValue("budget= is for child workflows; what an agent may use up stands on its card")
        name = target if isinstance(target, str) else target.name
        wanted = AS_USUAL if is_usual else as_wanted(fallback, person, default, priority, optional)
        return self._requests.start_call(self._call_id(name, key), name, args, kwargs, wanted)

    async def select(
        self, needs: Sequence[str] | str = (), *, by: Any = None, of: Any = None, default: Any = None,
        key: str | None = None,
    ) -> str:  # fmt: skip
        """Choose the agent to call next and return its name. The choice is recorded, with its reason.

        The first of these that applies is chosen: the agent that `by` names, if it exists and can take calls; the most
        specialised agent that has all capabilities in `needs`; the app's generalist. Unless the cluster's mode is full,
        `by` is not asked and the generalist is chosen.

        Args:
            by: an agent (for example a language model) that is called with `of` and returns a name, or a function of
                `of`
                that depends on nothing else. If it fails, or returns None or "", the rule above goes on.
            default: an agent or its name: chosen in mode emergency, and in place of raising UnknownAgent.

        Raises:
            UnknownAgent: there is no agent to choose.
        """
        wanted = (needs,) if isinstance(needs, str) else tuple(needs)
        call = self._call_id("select", key)
        named, why = None, ""
        if by is not None:
            asks = self._call_id("", selector_key(call)) if is_agent(by) else ""
            if not self._requests.asks_nobody(call, asks):
                named, why = await self._named(by, of, call)
        static = "" if default is None else default if isinstance(default, str) else default.name
        selected = self._requests.select(call, wanted, named, why, static)
        if selected is None:
            raise UnknownAgent(f"no agent can do {', '.join(wanted) or 'this'}, and the app names no generalist")
        return selected

    async def _named(self, by: Any, of: Any, call: str) -> tuple[str | None, str]:
        """The agent that the primary selector names, with who named it; or none, with the reason."""
        asks = is_agent(by)
        who = by if isinstance(by, str) else by.name if asks else getattr(by, "__name__", "a function")
        try:
            named = await self.call(by, of, key=selector_key(call)) if asks else by(of)
        except PointsmanError as error:
            return None, f"{who} failed: {error}"
        if not named:
            return None, f"{who} named nobody"
        if not isinstance(named, str):
            return None, f"{who} gave {type(named).__name__}, not a name"
        return named, who

    def subscribers(self, event: str, *, by: str = "", key: str | None = None) -> tuple[str, ...]:
        """The names of the agents that an event triggers (`app.on`, or `on` of a card). The list is recorded.

        Args:
            by: the call in which the event was emitted, for display.
        """
        return self._requests.subscribers(self._call_id(f"event:{event}", key), event, by)

    def declare_plan(self, name: str, tasks: Sequence[tuple[str, str, Sequence[str], str]]) -> None:
        """Record the tasks of a plan, for display: `pointsman runs show` draws it.

        Args:
            tasks: for each task its name, its agent or workflow, the tasks that it needs, and `if_failed`. The call of
                a
                task has the key "NAME/TASK".
        """
        planned = tuple(
            PlannedTask(task, self._call_id("", f"{name}/{task}"), target, tuple(after), if_failed)
            for task, target, after, if_failed in tasks
        )
        self._requests.declare_plan(self._call_id(f"plan:{name}", None), planned)

    # -- waiting -------------------------------------------------------------------------------------------------

    async def sleep(self, seconds: float, *, key: str | None = None) -> None:
        """Sleep durably. The run may rest for a year, and needs no memory meanwhile. A negative time is 0, as with
        `asyncio.sleep`.

        Raises:
            InvalidValue: not a finite number of seconds, or more than three hundred years.
        """
        await self.start_sleep(seconds, key=key)

    def start_sleep(self, seconds: float, *, key: str | None = None) -> Handle[None]:
        """Start a timer without waiting for it, for example to race it against other handles. Raises as `sleep`."""
        delay_ms = _milliseconds(seconds, "sleep({})")
        return self._requests.set_timer(self._call_id("sleep", key), delay_ms)

    async def wait_for(
        self, signal: str, *, expect: Any = None, timeout: float | None = None, key: str | None = None
    ) -> Any:
        """Wait for a signal of this name. A signal that arrived earlier, and that nothing has waited for yet, counts.

        Args:
            expect: a type to read the payload as.
            timeout: seconds, of which a negative number is 0; None waits for ever.

        Raises:
            SignalTimeout: no such signal arrived in time. InvalidValue: the timeout is not a finite number of seconds.
        """
        timeout_ms = 0 if timeout is None else _milliseconds(timeout, "wait_for(timeout={})")
        call = self._call_id(f"signal:{signal}", key)
        handle = self._requests.await_signal(call, signal, expect)
        if timeout is None:
            return await handle
        timer = self._requests.set_timer(f"{call}/timeout", timeout_ms)
        first = await self.first(handle, timer)
        if first is timer:
            handle.cancel()
            raise SignalTimeout("timeout", f"no signal {signal!r} within {timeout} s", call=call)
        timer.cancel()
        return handle.result()

    async def gather(self, *handles: Handle[Any], return_errors: bool = False) -> list[Any]:
        """Wait for all handles and return their results in the order given.

        The first failure is raised as soon as it occurs; the other handles go on. With `return_errors`, errors take the
        place of results in the list. Without handles the list is empty.
        """
        self._check_handles(handles)
        await self._requests.all_of(handles, until_failure=not return_errors)
        return [handle.error if handle.error is not None else handle.result() for handle in handles]

    async def first(self, *handles: Handle[Any]) -> Handle[Any]:
        """Wait for the first handle to be done, by the order of the log, and return it. The others go on; `cancel`
        those that you do not need.
        """
        self._check_handles(handles)
        if not handles:
            raise InvalidValue("first() of no handles would wait for ever: give at least one")
        await _AnyOf(self._requests, handles)
        return min((handle for handle in handles if handle.done), key=lambda handle: handle.order)

    def branch(self, name: str, body: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> Handle[T]:
        """Run `body(run, *args)` concurrently with this body, with a `Run` of its own. The branch itself is not
        recorded, only what it does.
        """
        path = f"{self._prefix}{name}/{next(self._numbers[f'{name}/'])}"
        return self._requests.start_branch(path, body(Run(self._requests, self._state, path), *args, **kwargs))

    @contextmanager
    def shield(self) -> Iterator[None]:
        """Hold back a cancel inside the block, for clean-up that must call agents. The cancel is delivered at the first
        await after the block.
        """
        strand = self._requests.current
        strand.shields += 1
        try:
            yield
        finally:
            strand.shields -= 1

    # -- typed state ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> Any:
        """The run's typed state, of the type that its workflow declares (`@app.workflow(state=...)`); None before the
        first `set`.

        It is read-only: a run whose state object was modified fails with `state_changed_in_place`.

        Raises:
            InvalidValue: the workflow declares no state.
        """
        return self._requests.state()

    def set(self, value: Any = NOT_GIVEN, /, **changes: Any) -> None:
        """Set the run's typed state to `value`, or change these fields of it.

        This is an event. It is durable before any later call reaches an agent; others see the state as soon as it is
        durable.

        Raises:
            InvalidState: the value does not fit the declared type. InvalidValue: the workflow declares no state, no
                value was
            given, or no store could hold the value. ValueTooLarge.
        """
        self._requests.set_state(self._call_id("set:state", None), value, changes)

    # -- long loops ----------------------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """The number of the current generation, from 1: the number of restarts plus one."""
        return self._state.generation

    def restart(self, *args: Any, **kwargs: Any) -> NoReturn:
        """End the body here and begin it again with this input: the same run, in its next generation.

        Use it in long-running loops: replay reads only the current generation, and only its events count towards the
        limit. The run keeps its mail, its unread signals, its state, its budget and its children; its timers and waits
        end. Call ids and `random` start again from the beginning, but never repeat what they gave before.

        Raises:
            RunRestarting: always; let it propagate. Clean-up in `finally` still belongs to this generation.
            InvalidInput, InvalidValue: the input does not fit the workflow, or this is called inside a branch.

        The run fails with `calls_under_way` if calls of agents are under way, and with `loop_detected` if this
        generation waited for nothing.
        """
        self._requests.restart(args, kwargs)

    # -- the world, recorded -------------------------------------------------------------------------------------

    def now(self) -> float:
        """The time of the event delivered last, in seconds since 1970 by the database's clock. Never goes back."""
        return self._state.last_at / 1000

    def random(self) -> float:
        """A float in [0, 1) that is the same in every replay."""
        return entropy.random_float(self._state.seed, f"{self._prefix}random#{next(self._numbers['random'])}")

    def uuid(self) -> str:
        """A random UUID that is the same in every replay."""
        return entropy.random_uuid(self._state.seed, f"{self._prefix}uuid#{next(self._numbers['uuid'])}")

    def mode(self) -> str:
        """The cluster's mode: full, degraded or emergency. Each call of this method is recorded as an event."""
        return self._requests.read_mode(self._call_id("mode", None))

    # -- names ---------------------------------------------------------------------------------------------------

    def _call_id(self, name: str, key: str | None) -> str:
        """A call id that is the same in every replay and differs between generations, so that a late result of one
        generation is not taken for a result of the next.
        """
        if key is None:
            return f"{self._prefix}{name}#{next(self._numbers[name])}{self._suffix}"
        if not key or "#" in key or len(key) > KEY_CHARS_MAX:
            raise InvalidValue(f"key={key!r}: 1 to {KEY_CHARS_MAX} characters, and no '#'")
        return self._prefix + key + self._suffix

    @staticmethod
    def _check_handles(handles: Sequence[Handle[Any]]) -> None:
        if not all(isinstance(handle, Handle) for handle in handles):
            raise InvalidValue("give handles: run.start(...) instead of run.call(...)")


def _milliseconds(seconds: float, what: str) -> int:
    """A time that has gone negative is over at once. Raises InvalidValue, which shows `what` was asked for."""
    try:
        is_time = -SECONDS_MAX < seconds < SECONDS_MAX
    except (TypeError, ArithmeticError):
        is_time = False
    if not is_time:
        raise InvalidValue(f"{what.format(repr(seconds))}: give a finite number of seconds, less than {SECONDS_MAX:g}")
    return max(round(seconds * 1000), 0)


class _AnyOf:
    """An awaitable that waits until one of the handles is done."""

    __slots__ = ("_handles", "_requests")

    def __init__(self, requests: Requests, handles: Sequence[Handle[Any]]) -> None:
        self._requests = requests
        self._handles = handles

    def __await__(self) -> Any:
        return self._requests.until_any_done(self._handles)
