"""The OpenAPI 3.1 document, generated from the declarations of the routes: no part of it is written by hand elsewhere.

Schemas are those of the types that the code reads and writes (msgspec). Answers that every route may give in addition
to its own are declared here. Must not know which routes there are.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from pointsman.agents.card import Card
from pointsman.api import errors, problems
from pointsman.api.parameters import Parameter
from pointsman.api.routing import JSON_TYPE, STREAM_TYPE, Answer, Declaration
from pointsman.api.settings import ApiSettings
from pointsman.api.views import EventBody
from pointsman.kernel.errors import (
    Draining,
    InvalidValue,
    PointsmanError,
    SchemaDiffers,
    SchemaFromFuture,
    SchemaMissing,
    StoreRefused,
    StoreUnavailable,
    ValueTooLarge,
)

VERSION = "3.1.0"
REF = "#/components/schemas/{name}"
PROBLEM_TYPE = problems.MEDIA_TYPE.decode()

ALWAYS = (
    errors.BadRequest, errors.InvalidHeader, errors.InvalidQuery, errors.RequestTimeout, errors.HeadersTooLarge,
    errors.Internal, errors.TooManyConnections,
)  # fmt: skip
UNLESS_PUBLIC = (
    errors.Unauthorized, errors.CrossOrigin, errors.ForeignHost, StoreUnavailable, SchemaMissing,
    SchemaFromFuture, SchemaDiffers, Draining,
)  # fmt: skip
WITH_BODY = (
    errors.InvalidJson, errors.BodyTooLarge, errors.UnsupportedMediaType, errors.UnsupportedEncoding,
    errors.InvalidBody, errors.UnknownField, InvalidValue, ValueTooLarge, StoreRefused,
)  # fmt: skip
WITHOUT_BODY = (errors.UnexpectedBody,)
WITH_ID = (errors.InvalidId,)
WITH_PATH = (errors.NotFound,)  # a path with a hidden separator or control character matches no route

ABOUT = """The API of a coordinator. A router passes it on, and may answer by itself that no coordinator could: 502, 503
or 504, as a problem too. Wherever `GET` is answered, so is `HEAD`. Every error is a problem (RFC 9457) with a stable
`code`; the codes that a route may answer with are listed with each status, and in `x-problem-codes`."""


def describe(declared: Sequence[Declaration], settings: ApiSettings) -> dict[str, Any]:
    """Build the document as plain data. Bounds that are settings get the values of `settings`."""
    schemas = _Schemas(declared)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for one in declared:
        paths[one.path][one.method.lower()] = _operation(one, schemas, settings)
    return {
        "openapi": VERSION,
        "info": {"title": "Pointsman", "version": version("pointsman"), "description": ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}] if settings.token is not None else [{"bearer": []}, {}],
        "paths": dict(paths),
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


class _Schemas:
    """The types of all bodies and answers with their schemas; schemas with a name are put into the components."""

    def __init__(self, declared: Iterable[Declaration]) -> None:
        self._types: list[Any] = [problems.Problem, Card, EventBody]
        for one in declared:
            for type_ in (*(answer.type for answer in one.answers), *([one.body.type] if one.body else [])):
                if type_ not in self._types:
                    self._types.append(type_)
        self._schemas, self.components = msgspec.json.schema_components(self._types, ref_template=REF)
        for component in self.components.values():
            if "description" in component:
                component["description"] = inspect.cleandoc(component["description"])
        codes = {code: text for one in declared for codes in problems_of(one).values() for code, text in codes.items()}
        listed = [f"- `{code}`: {text}" for code, text in sorted(codes.items())]
        self.components["Problem"]["properties"]["code"]["description"] = "Stable.\n\n" + "\n".join(listed)

    def of(self, type_: Any) -> dict[str, Any]:
        return self._schemas[self._types.index(type_)]


def _operation(one: Declaration, schemas: _Schemas, settings: ApiSettings) -> dict[str, Any]:
    said: dict[str, Any] = {"operationId": one.name, "summary": one.summary}
    if one.tag:
        said["tags"] = [one.tag]
    if one.about:
        said["description"] = one.about
    if one.public:
        said["security"] = []
    if one.parameters:
        said["parameters"] = [_parameter(parameter, settings) for parameter in one.parameters]
    if one.body is not None:
        content = {JSON_TYPE: {"schema": schemas.of(one.body.type)}}
        said["requestBody"] = {"required": one.body.required, "content": content}
    said["responses"] = {str(answer.status): _answer(answer, schemas) for answer in one.answers}
    for status, codes in sorted(problems_of(one).items()):
        said["responses"][str(status)] = _problem(status, codes, schemas)
    return said


def _parameter(parameter: Parameter[Any], settings: ApiSettings) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.about,
        "required": parameter.required,
        "schema": parameter.schema(settings),
    }


def _answer(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    content = {answer.media: {"schema": _stream(schemas) if answer.media == STREAM_TYPE else schemas.of(answer.type)}}
    if answer.or_stream:
        content[STREAM_TYPE] = {"schema": _stream(schemas)}
    said: dict[str, Any] = {"description": answer.about, "content": content}
    if answer.headers:
        said["headers"] = {
            name: {"description": about, "schema": {"type": "string"}} for name, about in answer.headers
        }  # fmt: skip
    return said


def _stream(schemas: _Schemas) -> dict[str, Any]:
    """One server-sent event; what `data` holds, as JSON, depends on its kind: an event, `problem`, or `end`."""
    nothing = {"type": "object", "maxProperties": 0}
    holds = {"anyOf": [schemas.of(EventBody), schemas.of(problems.Problem), nothing]}
    data = {"contentMediaType": JSON_TYPE, "contentSchema": holds}
    text = {"type": "string"}
    return {"type": "object", "properties": {"id": text, "event": text, "data": {**text, **data}}, "required": ["data"]}


def problems_of(one: Declaration) -> dict[int, dict[str, str]]:
    """The errors that a route may answer: for each status the codes, with their meanings."""
    kinds: list[type[PointsmanError]] = [*ALWAYS, *one.errors]
    kinds += WITHOUT_BODY if one.body is None else WITH_BODY
    kinds += () if one.public else UNLESS_PUBLIC
    if any("pattern" in parameter.schema(ApiSettings()) for parameter in one.parameters):
        kinds += WITH_ID
    kinds += WITH_PATH if any(parameter.place == "path" for parameter in one.parameters) else ()
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for kind in kinds:
        found[kind.status][kind.code] = kind.meaning()
    return found


def _problem(status: int, codes: dict[str, str], schemas: _Schemas) -> dict[str, Any]:
    said: dict[str, Any] = {
        "description": f"{HTTPStatus(status).phrase}: {', '.join(f'`{code}`' for code in sorted(codes))}.",
        "content": {PROBLEM_TYPE: {"schema": schemas.of(problems.Problem)}},
        "x-problem-codes": sorted(codes),
    }
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        said["headers"] = {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
            "Pointsman-Retry-Elsewhere": {
                "description": "`1`: nothing was done here, and another coordinator may do it.",
                "schema": {"type": "string"},
            },
        }
    return said
