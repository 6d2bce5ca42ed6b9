"""The client of asyncio. What differs from `blocking.py` is only how it waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self, TypeVar, overload

import httpx

from pointsman.api.views import EventBody, ResultBody
from pointsman.client import exchange
from pointsman.client.asks import Ask, Pages
from pointsman.client.exchange import Trying
from pointsman.client.following import Following, Polling
from pointsman.client.patience import Patience
from pointsman.client.verbs import Verbs
from pointsman.kernel.errors import PointsmanError

T = TypeVar("T")


class AsyncClient(Verbs):
    """The API of a cluster, by the address of its router or of a coordinator. For one event loop.

    What is safe to repeat is sent again when nobody answers, the connection breaks, or the answer is 503.

    Args:
        url: as http://host:port.
        token: the API's bearer token.
        tenant: speak for this tenant alone.
        retry_for: seconds for which a request is sent again. connect_for: the same while nobody has answered yet.

    Raises:
        InvalidArgument: the URL is none.
    """

    def __init__(
        self, url: str = exchange.DEFAULT_URL, *, token: str | None = None, tenant: str | None = None,
        retry_for: float = 30.0, connect_for: float = 5.0,
    ) -> None:  # fmt: skip
        self.url = url.rstrip("/")
        self._patience = Patience(retry_for, connect_for)
        self._has_answered = False
        settings = exchange.settings(url, token, tenant)
        self._http = httpx.AsyncClient(**settings)
        self._waiting = httpx.AsyncClient(**settings, limits=exchange.WAITING)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()
        await self._waiting.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- one request -------------------------------------------------------------------------------------

    async def send(self, ask: Ask[T]) -> T:
        """The answer to what is asked. Raises: the API's errors by name, Unreachable."""
        return exchange.decoded(self.url, ask, await self._exchange(ask))

    async def request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        """Status and JSON of any route, for what has no verb here. It is repeated like all else: give what begins
        something an id or a key.

        Raises: the API's errors by name, Unreachable.
        """
        ask: Ask[Any] = Ask(Any, method, path, exchange.pairs(params), body, dict(headers or {}))
        response = await self._exchange(ask)
        return response.status_code, exchange.decoded(self.url, ask, response)

    async def _exchange(self, ask: Ask[Any]) -> httpx.Response:
        trying = Trying(self._patience, repeats=ask.repeats, until=ask.until)
        while True:
            try:
                return await self._once(ask)
            except PointsmanError as error:
                pause_s = trying.pause_s(error, has_answered=self._has_answered)
            await asyncio.sleep(pause_s)

    async def _once(self, ask: Ask[Any]) -> httpx.Response:
        try:
            response = await (self._waiting if ask.wait_s else self._http).request(**exchange.arguments(ask))
        except httpx.HTTPError as error:
            raise exchange.unreachable(self.url, error) from error
        self._has_answered = True
        return exchange.checked(self.url, response)

    # -- more than one -----------------------------------------------------------------------------------

    async def iterate(self, pages: Pages[T]) -> AsyncIterator[T]:
        """The items of a list, each page asked for when it is needed."""
        cursor: Any = None
        while True:
            page = await self.send(pages.ask(cursor))
            for item in pages.items(page):
                yield item
            cursor = pages.next(page)
            if cursor is None:
                return

    async def wait(self, run: str, *, timeout: float | None = None) -> ResultBody:
        """The run's outcome once it has ended or is held back, whoever of the cluster dies meanwhile.

        Args:
            timeout: seconds; for ever without.

        Raises:
            DeadlinePassed: it has not; it goes on. UnknownRun.
        """
        polling = Polling(run, timeout)
        while True:
            try:
                answer = await self.send(polling.ask())
            except PointsmanError as error:
                polling.check(error)
                raise
            if polling.is_over(answer):
                return answer

    @overload
    async def result(self, run: str, type: None = None, *, timeout: float | None = None) -> Any: ...
    @overload
    async def result(self, run: str, type: type[T], *, timeout: float | None = None) -> T: ...
    async def result(self, run: str, type: Any = None, *, timeout: float | None = None) -> Any:  # noqa: A002
        """What the run gave, once it has ended.

        Args:
            type: what it is read as: a pydantic model, a dataclass, a plain type; plain data without.
            timeout: seconds; for ever without.

        Raises:
            RunNotCompleted: it failed or was cancelled. RunHeldBack: nobody drives it.
            DeadlinePassed, UnknownRun; pydantic.ValidationError: it gave something else.
        """
        return exchange.output(await self.wait(run, timeout=timeout), type)

    async def follow(self, run: str, *, after: int = 0) -> AsyncIterator[EventBody]:
        """The run's events as they come, each once and in order, until it has ended.

        A stream that breaks is taken up after the last event that came, wherever somebody answers.

        Args:
            after: only events after this sequence.

        Raises:
            UnknownRun, NoSuchSequence (it ended before `after`), Unreachable.
        """
        following = Following(run, after)
        trying = Trying(self._patience)
        while True:
            try:
                async with aclosing(self._lines(following)) as lines:  # or the connection would be left to the loop
                    async for line in lines:
                        event = following.read(line)
                        if following.goes_on:
                            trying.worked()
                        if event is not None:
                            yield event
                        if following.has_ended:
                            return
                error: PointsmanError = exchange.cut(self.url)
            except PointsmanError as raised:
                error = raised
            await asyncio.sleep(trying.pause_s(error, has_answered=self._has_answered))

    async def _lines(self, following: Following) -> AsyncGenerator[str, None]:
        try:
            async with self._waiting.stream(
                "GET", following.path, headers=following.headers(), timeout=exchange.STREAM_TIMEOUT
            ) as response:
                self._has_answered = True
                if response.status_code != 200:
                    await response.aread()
                    exchange.checked(self.url, response)
                async for line in response.aiter_lines():
                    yield line
        except httpx.HTTPError as error:
            raise exchange.unreachable(self.url, error) from error
