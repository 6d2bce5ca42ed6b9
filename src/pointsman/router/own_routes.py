"""What the router answers itself: /health, /ready and everything below /router.

Must not know connections. Everything but /health and /ready asks for the token, proxied requests too.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import msgspec

from pointsman.router import metrics, problems
from pointsman.router.membership import Announcement, StaleIncarnation, TooManyCoordinators
from pointsman.router.problems import JSON, Problem
from pointsman.router.reading import Request
from pointsman.router.settings import InvalidRouterSettings, host_in, is_loopback, parse_address
from pointsman.router.state import RouterState

_READ = (b"GET", b"HEAD")
_announcement = msgspec.json.Decoder(Announcement)


class Answer(NamedTuple):
    status: int
    media_type: bytes
    body: bytes


def answer(router: RouterState, request: Request) -> Answer | Problem | None:
    """None: it is for a coordinator."""
    path = request.path
    if path == b"/health":
        return _reading(request) or Answer(200, JSON, b'{"status":"ok"}')
    if path == b"/ready":
        return _reading(request) or _ready(router)
    announces = path == b"/router/announce"
    refusal = _refusal(router, request, announces=announces)
    if refusal is not None:
        return refusal
    if path != b"/router" and not path.startswith(b"/router/"):
        return None
    if announces:
        return _announce(router, request)
    if path == b"/router/coordinators":
        return _reading(request) or _coordinators(router)
    if path == b"/router/metrics":
        return _reading(request) or _metrics(router)
    return problems.NOT_FOUND


def _refusal(router: RouterState, request: Request, *, announces: bool) -> Problem | None:
    settings = router.settings
    wanted = (settings.announce_token if announces else None) or settings.token
    if wanted is None:  # as the API does: a page may have given its own name this machine's address
        host = request.named.get(b"host")
        return None if host is None or _is_own(host) else problems.FOREIGN_HOST
    scheme, _, given = request.named.get(b"authorization", b"").partition(b" ")
    is_right = scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), wanted.encode())
    return None if is_right else problems.UNAUTHORIZED


@lru_cache(maxsize=16)
def _is_own(host: bytes) -> bool:
    return is_loopback(host_in(host))


def _reading(request: Request) -> Problem | None:
    return None if request.method in _READ else _not_allowed(b"GET, HEAD")


def _not_allowed(allow: bytes) -> Problem:
    return replace(problems.METHOD_NOT_ALLOWED, headers=b"Allow: %b\r\n" % allow)


def _ready(router: RouterState) -> Answer | Problem:
    if router.stopping or not router.membership.ready(router.clock()):
        return problems.NO_COORDINATOR
    return Answer(200, JSON, b'{"status":"ready"}')


def _announce(router: RouterState, request: Request) -> Answer | Problem:
    if request.method != b"POST":
        return _not_allowed(b"POST")
    if b"origin" in request.named:  # sent by a browser, from whatever page
        return problems.CROSS_ORIGIN
    try:
        said = _announcement.decode(request.body)
        parse_address(said.address)
        router.membership.announce(said, router.clock())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidRouterSettings):
        return problems.INVALID_ANNOUNCEMENT
    except StaleIncarnation:
        return problems.STALE_INCARNATION
    except TooManyCoordinators:
        return problems.TOO_MANY_COORDINATORS
    return Answer(200, JSON, b'{"status":"ok"}')


def _coordinators(router: RouterState) -> Answer:
    return Answer(200, JSON, msgspec.json.encode({"coordinators": router.membership.rows(router.clock())}))


def _metrics(router: RouterState) -> Answer:
    rows = router.membership.rows(router.clock())
    body = router.metrics.text(
        clients=len(router.clients),
        upstreams=router.upstreams.open,
        coordinators=[(row["name"], row["state"], row["load"]) for row in rows],
    )
    return Answer(200, metrics.MEDIA_TYPE, body)
