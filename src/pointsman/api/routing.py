"""How a route is declared: once, at its handler.

    @route(
        "show_thing", "GET", "/v1/things/{name}", "One thing", tag="things",
        parameters=(NAME,), answers=(Answer(200, ThingBody, "The thing."),), errors=(UnknownThing,),
    )
    async def get(self, request: ApiRequest) -> Reply:
        thing = await self._things.get(request.value(NAME))

The declaration serves for matching, for refusals before the handler runs (an unknown query parameter, an unexpected
body, a request without the token), and for the OpenAPI document. A handler can read only what is declared: a parameter
by `request.value`, a body by its own `read`. `errors` lists what this route raises in addition to what all raise
(`openapi.py`). Add the handler's class to `Api.routes` in `app.py`, and the route to the table in
`docs/reference/http-api.md`. The tests check every answer that they get against the document.

Must not know which routes there are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import msgspec
from starlette.routing import Route
from starlette.types import ASGIApp

from pointsman.api.body import Body
from pointsman.api.parameters import Parameter
from pointsman.api.request import ApiRequest
from pointsman.kernel.errors import PointsmanError

Handler = Callable[[ApiRequest], Awaitable[ASGIApp]]
F = TypeVar("F", bound=Callable[..., Any])
JSON_TYPE = "application/json"
STREAM_TYPE = "text/event-stream"


class Answer(msgspec.Struct, frozen=True):
    """A route's answer on success.

    Attributes:
        type: the type of its JSON, for msgspec; `str` for another media type.
        about: what it means.
        headers: names of its headers, each with its meaning.
        or_stream: with `Accept`, the caller may ask for a stream of server-sent events instead.
    """

    status: int
    type: Any
    about: str
    media: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()
    or_stream: bool = False


class Declaration(msgspec.Struct, frozen=True):
    """The declaration of a route.

    Attributes:
        name: the operation's name. It is stable: generated clients have a function of this name.
        public: the route needs no token; by default it does.
        tag: the group that it belongs to.
        body: None: it takes no body.
    """

    name: str
    method: str
    path: str
    summary: str
    tag: str = ""
    parameters: tuple[Parameter[Any], ...] = ()
    body: Body | None = None
    answers: tuple[Answer, ...] = ()
    errors: tuple[type[PointsmanError], ...] = ()
    about: str = ""
    public: bool = False

    def __call__(self, handler: F) -> F:
        handler.declared = self  # type: ignore[attr-defined]
        return handler


route = Declaration
"""The decorator that declares a method as the handler of a route."""


class ApiRoute(Route):
    """A declared route and its handler."""

    def __init__(self, declared: Declaration, handler: Handler) -> None:
        super().__init__(declared.path, handler, methods=[declared.method])
        placed = {parameter.name for parameter in declared.parameters if parameter.place == "path"}
        if placed != set(self.param_convertors):
            raise ValueError(f"{declared.method} {declared.path}: its parameters in the path are {sorted(placed)}")
        self.declared = declared
        self.handler = handler
        self.public = declared.public


def routes_of(handlers: object) -> Iterator[ApiRoute]:
    """The routes that are declared in a class, in the order of the source."""
    for name, declared in _declared(type(handlers)):
        yield ApiRoute(declared, getattr(handlers, name))


def declared_in(handlers: type) -> Iterator[Declaration]:
    """The declarations in a class."""
    return (declared for _, declared in _declared(handlers))


def _declared(handlers: type) -> Iterator[tuple[str, Declaration]]:
    for name, value in vars(handlers).items():
        declared = getattr(value, "declared", None)
        if isinstance(declared, Declaration):
            yield name, declared
