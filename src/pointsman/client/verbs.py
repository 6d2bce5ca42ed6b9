"""How what is asked (`asks.py`) becomes a method of both clients, so that each verb is written once.

Must not know HTTP.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from pointsman.client import asks, asks_cluster
from pointsman.client.asks import Ask, Pages

if TYPE_CHECKING:
    from pointsman.client.asynchronous import AsyncClient
    from pointsman.client.blocking import Client

P = ParamSpec("P")
T = TypeVar("T")


class Verb(Generic[P, T]):
    """A method that sends one request: returns its answer, or, of the asynchronous client, is awaited."""

    def __init__(self, ask: Callable[P, Ask[T]]) -> None:
        self._ask = ask

    @overload
    def __get__(self, client: None, _owner: object) -> Callable[P, Ask[T]]: ...
    @overload
    def __get__(self, client: Client, _owner: object) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, _owner: object) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: Client | AsyncClient | None, _owner: object) -> Any:
        if client is None:
            return self._ask

        @functools.wraps(self._ask)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(self._ask(*args, **kwargs))

        return call


class ListVerb(Generic[P, T]):
    """A method that goes through a list, page by page: an iterator, or, of the asynchronous client, an async one."""

    def __init__(self, pages: Callable[P, Pages[T]]) -> None:
        self._pages = pages

    @overload
    def __get__(self, client: None, _owner: object) -> Callable[P, Pages[T]]: ...
    @overload
    def __get__(self, client: Client, _owner: object) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, client: AsyncClient, _owner: object) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: Client | AsyncClient | None, _owner: object) -> Any:
        if client is None:
            return self._pages

        @functools.wraps(self._pages)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.iterate(self._pages(*args, **kwargs))

        return call


class Verbs:
    """The verbs that both clients have. Each raises the API's errors by name, and `Unreachable`."""

    start = Verb(asks.start)
    get = Verb(asks.get)
    state = Verb(asks.state)
    list = ListVerb(asks.list_runs)
    events = ListVerb(asks.events)
    signal = Verb(asks.signal)
    cancel = Verb(asks.cancel)
    release = Verb(asks.release)
    redrive = Verb(asks.redrive)
    tasks = ListVerb(asks_cluster.tasks)
    task = Verb(asks_cluster.task)
    answer = Verb(asks_cluster.answer)
    refuse = Verb(asks_cluster.refuse)
    assign = Verb(asks_cluster.assign)
    agents = Verb(asks_cluster.agents)
    agent = Verb(asks_cluster.agent)
    enable_agent = Verb(asks_cluster.enable_agent)
    disable_agent = Verb(asks_cluster.disable_agent)
    breakers = Verb(asks_cluster.breakers)
    pin_breaker = Verb(asks_cluster.pin_breaker)
    unpin_breaker = Verb(asks_cluster.unpin_breaker)
    budgets = ListVerb(asks_cluster.budgets)
    budget = Verb(asks_cluster.budget)
    set_budget = Verb(asks_cluster.set_budget)
    mode = Verb(asks_cluster.mode)
    set_mode = Verb(asks_cluster.set_mode)
    workers = Verb(asks_cluster.workers)
