"""Decide who may use a route, by the matched route object and never by a path.

Default-deny: a route is open only if it was declared public, and a request that matches no route is treated as closed.
(Other projects decided by path suffix, which left every resource named `health` open.) A Host header never grants
access. Without a token it can deny it: a request under a foreign name comes from a page whose name resolves to this
address.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from pointsman.api.errors import CrossOrigin, ForeignHost, Unauthorized
from pointsman.api.request import ApiRequest
from pointsman.api.settings import ApiSettings, host_in, is_loopback


class Guard:
    """Checks a request's token or, if no token is set, that no foreign page sent it."""

    def __init__(self, settings: ApiSettings) -> None:
        self._token = None if settings.token is None else settings.token.encode()
        self._own_host: bytes | None = None
        """The last accepted Host header: a client sends the same each time."""

    def check(self, request: ApiRequest, *, public: bool) -> None:
        """Check a request. Raises: Unauthorized, CrossOrigin, ForeignHost."""
        if public:
            return
        if self._token is None:
            self._check_origin(request)
            self._check_host(request)
            return
        scheme, _, credentials = request.headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(credentials.strip(), self._token):
            raise Unauthorized

    def _check_origin(self, request: ApiRequest) -> None:
        """Refuse requests of foreign pages. Without a token the API is on loopback, where scripts of any web page can
        send requests to it; browsers name the page in the Origin header.
        """
        origin = request.headers.get(b"origin")
        if origin is None:
            return
        try:
            host = urlsplit(origin.decode("latin-1")).hostname
        except ValueError:
            host = None
        if host is None or not is_loopback(host):
            raise CrossOrigin

    def _check_host(self, request: ApiRequest) -> None:
        """Refuse requests under a foreign host name (DNS rebinding). A page whose name now resolves to this machine has
        the same origin as the API: its requests may have no Origin header, and it may read the answers. But they still
        carry the page's name as Host.
        """
        host = request.headers.get(b"host")
        if host is None or host == self._own_host:  # every browser sends it
            return
        if not is_loopback(host_in(host)):
            raise ForeignHost
        self._own_host = host
