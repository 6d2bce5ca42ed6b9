"""Every error that the HTTP API itself raises: what a request or a setting did wrong, each with a stable code
and status.

    PointsmanError (kernel)
    └── ApiError
        ├── BadRequest              not HTTP that this server understands
        ├── InvalidJson, InvalidBody, UnknownField, UnexpectedBody, BodyTooLarge
        ├── InvalidQuery, InvalidHeader, InvalidId, TenantMismatch
        ├── Unauthorized, CrossOrigin, ForeignHost, ClusterOnly
        ├── NotFound, EffectNotFound, MethodNotAllowed, UnsupportedMediaType, UnsupportedEncoding
        ├── RequestTimeout, HeadersTooLarge
        ├── TooManyConnections, TooManyStreams, NotReady
        ├── Internal                something that nobody foresaw; its cause is in the log
        └── InvalidSetting
            └── InsecureBind

Knows nothing of routes or of how an error is written (`problems.py`).
"""

from __future__ import annotations

from pointsman.kernel.errors import PointsmanError


class ApiError(PointsmanError):
    """The request can't be served.

    Attributes:
        headers: what the response says beside its body.
        elsewhere: nothing was done here, and another coordinator may well do it.
    """

    code = "bad_request"
    status = 400
    elsewhere = False
    headers: tuple[tuple[bytes, bytes], ...] = ()


class BadRequest(ApiError):
    """This is not an HTTP/1.1 request that the server can read."""


class InvalidJson(ApiError):
    """The body is not JSON; send UTF-8 JSON as RFC 8259 has it."""

    code = "invalid_json"


class InvalidBody(ApiError):
    """The body is JSON, but not what this route takes."""

    code = "invalid_body"
    status = 422


class UnknownField(InvalidBody):
    """The body has a field that this route does not know; remove it, or correct its name."""

    code = "unknown_field"


class UnexpectedBody(ApiError):
    """This route takes no body; send none."""

    code = "unexpected_body"


class BodyTooLarge(ApiError):
    """The body is over the size limit; store it elsewhere and pass a reference."""

    code = "body_too_large"
    status = 413


class InvalidQuery(ApiError):
    """A query parameter is unknown, repeated or out of range."""

    code = "invalid_query"


class InvalidHeader(ApiError):
    """A header that this API reads has a value that it does not take."""

    code = "invalid_header"


class InvalidId(ApiError):
    """An id or name is 1 to 128 characters of A-Z a-z 0-9 . _ : ~ @ - and starts with a letter or digit."""

    code = "invalid_id"


class TenantMismatch(ApiError):
    """The body names another tenant than the Pointsman-Tenant header; send one, or the same in both."""

    code = "tenant_mismatch"


class Unauthorized(ApiError):
    """This route needs `Authorization: Bearer` with the coordinator's token."""

    code = "unauthorized"
    status = 401
    headers = ((b"www-authenticate", b"Bearer"),)


class CrossOrigin(ApiError):
    """A page of another origin may not use an API that has no token; set a token, or call from this
    machine."""

    code = "cross_origin"
    status = 403


class ForeignHost(ApiError):
    """An API that has no token answers to a loopback address or localhost in the header Host, and to no other name: a
    web page could give any name this machine's address. Call it by 127.0.0.1 or localhost, or set a token."""

    code = "foreign_host"
    status = 403


class ClusterOnly(ApiError):
    """Agents, breakers and budgets are the cluster's: a request with Pointsman-Tenant, which speaks for one tenant, may
    not use this route."""

    code = "cluster_only"
    status = 403


class NotFound(ApiError):
    """There is no such route."""

    code = "not_found"
    status = 404


class EffectNotFound(ApiError):
    """Nothing is recorded under this name for this call: have the effect, then record it."""

    code = "effect_not_found"
    status = 404


class MethodNotAllowed(ApiError):
    """This route does not take this method; the Allow header says which it takes."""

    code = "method_not_allowed"
    status = 405

    def __init__(self, methods: list[str]) -> None:
        super().__init__()
        self.headers = ((b"allow", ", ".join(methods).encode()),)


class UnsupportedMediaType(ApiError):
    """A body is application/json in UTF-8."""

    code = "unsupported_media_type"
    status = 415


class UnsupportedEncoding(ApiError):
    """A body is sent as it is: no Content-Encoding."""

    code = "unsupported_encoding"
    status = 415


class RequestTimeout(ApiError):
    """The request did not arrive in time; send it again, faster."""

    code = "request_timeout"
    status = 408
    retryable = True


class HeadersTooLarge(ApiError):
    """The request line and headers are over the size limit."""

    code = "headers_too_large"
    status = 431


class TooManyConnections(ApiError):
    """This coordinator has as many connections as it may; ask another one, or later."""

    code = "too_many_connections"
    status = 503
    retryable = True
    elsewhere = True


class TooManyStreams(ApiError):
    """This coordinator has as many live streams as it may; ask another one, or later."""

    code = "too_many_streams"
    status = 503
    retryable = True
    elsewhere = True


class NotReady(ApiError):
    """This coordinator takes no work just now."""

    code = "not_ready"
    status = 503
    retryable = True


class Internal(ApiError):
    """Something failed that should not have; the coordinator's log has the cause under this request's id."""

    code = "internal"
    status = 500


class InvalidSetting(ApiError):
    """A setting of the API has a value that it can't take."""

    code = "invalid_setting"
    status = 500


class InsecureBind(InvalidSetting):
    """Only loopback may be bound without a token: set a token, or bind 127.0.0.1."""

    code = "insecure_bind"
