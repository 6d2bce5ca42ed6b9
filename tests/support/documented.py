"""Holds each answer of an API against its OpenAPI document: status, media type, headers, JSON, code of a problem."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jsonschema_rs
import msgspec
from starlette.types import Message, Receive, Scope, Send

from pointsman.api.app import Api
from pointsman.api.routing import ApiRoute


class Documented:
    """An ASGI application around `api`. Raises AssertionError in the request that got an answer of another kind."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}

    @cached_property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.json.decode(self.api.document())
        return document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {}
        body = bytearray()

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.extend(message.get("body", b""))
            await send(message)

        await self.api(scope, receive, sent)
        route = scope.get("route")
        if isinstance(route, ApiRoute) and start:
            self.check(route, scope["method"], start, bytes(body))

    def check(self, route: ApiRoute, method: str, start: Message, body: bytes) -> None:
        declared = route.declared
        where = f"{declared.method} {declared.path}"
        said = self.document["paths"][declared.path][declared.method.lower()]["responses"]
        status = str(start["status"])
        assert status in said, f"{where}: {status} is not in the document: {body[:300]!r}"
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        content = said[status]["content"]
        media = headers["content-type"]
        assert media in content, f"{where} {status}: {media} is not in the document"
        for name in said[status].get("headers", {}):
            assert name.lower() in headers or name == "Pointsman-Retry-Elsewhere", f"{where} {status}: no {name}"
        if method == "HEAD" or not media.endswith("json"):
            return
        value = msgspec.json.decode(body)
        self._validator(content[media]["schema"]).validate(value)
        if media == "application/problem+json":
            codes = said[status]["x-problem-codes"]
            assert value["code"] in codes, f"{where} {status}: {value['code']} is none of {codes}"

    def _validator(self, schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
        key = repr(schema)
        if key not in self._validators:
            whole = {**schema, "components": self.document["components"]}
            self._validators[key] = jsonschema_rs.Draft202012Validator(whole)
        return self._validators[key]
