"""The errors that the router itself makes, as Problem Details (RFC 9457), and how any response of its own is
written.

Must not know when they happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import msgspec

PROBLEM_JSON = b"application/problem+json"
JSON = b"application/json"


@dataclass(frozen=True, slots=True)
class Problem:
    """`code` is stable; `detail` says what to do."""

    status: int
    code: str
    title: str
    detail: str
    headers: bytes = b""

    def body(self) -> bytes:
        return msgspec.json.encode(
            {
                "type": f"urn:pointsman:problem:{self.code}",
                "title": self.title,
                "status": self.status,
                "code": self.code,
                "detail": self.detail,
            }
        )


_RETRY_AFTER = b"Retry-After: 1\r\n"

BAD_REQUEST = Problem(
    400, "bad_request", "The request is not valid HTTP",
    "Its framing or headers can be read in two ways or in none; send a well-formed HTTP/1.1 request.",
)  # fmt: skip
UNAUTHORIZED = Problem(
    401, "unauthorized", "A bearer token is required",
    "Send the router's token as Authorization: Bearer TOKEN.", b"WWW-Authenticate: Bearer\r\n",
)  # fmt: skip
CROSS_ORIGIN = Problem(
    403, "cross_origin", "Web pages may not announce coordinators", "Only a coordinator announces itself."
)
FOREIGN_HOST = Problem(
    403, "foreign_host", "A router without a token answers to no foreign name",
    "Call it by 127.0.0.1 or localhost, or set a token: a web page could give any name this machine's address.",
)  # fmt: skip
NOT_FOUND = Problem(
    404, "no_such_route", "The router has no such route",
    "Below /router there are /router/announce, /router/coordinators and /router/metrics.",
)  # fmt: skip
METHOD_NOT_ALLOWED = Problem(
    405, "method_not_allowed", "The route does not know this method", "Use the method named in Allow."
)
HEADERS_TIMEOUT = Problem(
    408, "headers_timeout", "The headers took too long", "Send the request's headers without pauses."
)
BODY_TIMEOUT = Problem(408, "body_timeout", "The body took too long", "Send the body without pauses, or a smaller one.")
STALE_INCARNATION = Problem(
    409, "stale_incarnation", "A newer incarnation of this coordinator is announced",
    "Stop this process or let it register again: another one has its name.",
)  # fmt: skip
BODY_TOO_LARGE = Problem(
    413, "body_too_large", "The body is over the router's limit",
    "Send less, or raise the router's body_bytes_max and the coordinators' with it.",
)  # fmt: skip
EXPECTATION_FAILED = Problem(
    417, "expectation_failed", "Only Expect: 100-continue is known", "Leave the Expect header out."
)
INVALID_ANNOUNCEMENT = Problem(
    422, "invalid_announcement", "The announcement is not as it should be",
    "Send name, address (host:port), incarnation, load and leaving as JSON.",
)  # fmt: skip
OTHER_COORDINATOR = Problem(
    421, "other_coordinator", "The router knows no coordinator of this address",
    "Ask the coordinator itself; the router passes on what is for an address that it was given or that was announced.",
)  # fmt: skip
HEADERS_TOO_LARGE = Problem(
    431, "headers_too_large", "The headers are over the router's limit", "Send fewer or shorter headers."
)
NOT_IMPLEMENTED = Problem(
    501, "not_implemented", "Upgrades, tunnels and transfer codings but chunked are refused",
    "Send plain HTTP/1.1 without Upgrade.",
)  # fmt: skip
UPSTREAM_BROKEN = Problem(
    502, "upstream_broken", "The coordinator's connection broke before it answered",
    "It is not known whether the request took effect. Look before you repeat it, or send an Idempotency-Key: "
    "then the router repeats it.",
)  # fmt: skip
UPSTREAM_INVALID = Problem(
    502, "upstream_invalid", "The coordinator's answer is not valid HTTP",
    "Check that the address announced is a coordinator's HTTP interface.",
)  # fmt: skip
NO_COORDINATOR = Problem(
    503, "no_coordinator", "No coordinator took the request in time",
    "Repeat it after Retry-After; GET /router/coordinators shows which ones the router knows.", _RETRY_AFTER,
)  # fmt: skip
TOO_MANY_CONNECTIONS = Problem(
    503, "too_many_connections", "The router has no connection left",
    "Repeat after Retry-After, keep connections open between requests, or raise connections_max.",
    _RETRY_AFTER,
)  # fmt: skip
TOO_MANY_BODIES = Problem(
    503, "too_many_bodies", "The router holds as many bytes of bodies as it may",
    "Repeat after Retry-After, or raise bodies_bytes_max.", _RETRY_AFTER,
)  # fmt: skip
TOO_MANY_COORDINATORS = Problem(
    503, "too_many_coordinators", "The router knows too many coordinators",
    "Give a restarted coordinator its old name, or raise coordinators_max.", _RETRY_AFTER,
)  # fmt: skip
UPSTREAM_TIMEOUT = Problem(
    504, "upstream_timeout", "The coordinator did not answer in time",
    "The request may still take effect. Ask for a shorter wait, or look before you repeat it.",
)  # fmt: skip
HTTP_VERSION = Problem(
    505, "http_version", "Only HTTP/1.1 and HTTP/1.0 are spoken here", "Send HTTP/1.1."
)  # fmt: skip


def response(
    status: int,
    media_type: bytes,
    body: bytes,
    *,
    headers: bytes = b"",
    connection: bytes = b"",
    head: bool = False,
) -> bytes:
    """A whole response. `headers` and `connection` are finished lines."""
    return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n%b" % (
        status, HTTPStatus(status).phrase.encode(), media_type, len(body), headers, connection,
        b"" if head else body,
    )  # fmt: skip
