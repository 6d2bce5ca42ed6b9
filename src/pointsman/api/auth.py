"""Who may use a route: decided on the matched route object, never on a path. A header that names a host opens nothing;
without a token it closes: what comes under a foreign name was sent by a page that gave its own name this address.

Default-deny: a route is open only if it was declared public, and what matches no route is treated as closed.
Peers decided by path suffix and left every resource named `health` open.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from pointsman.api.errors import CrossOrigin, ForeignHost, Unauthorized
from pointsman.api.request import ApiRequest
from pointsman.api.settings import ApiSettings, host_in, is_loopback


class Guard:
    """Checks a request against the token or, without a token, that no foreign page sent it."""

    def __init__(self, settings: ApiSettings) -> None:
        self._token = None if settings.token is None else settings.token.encode()
        self._own_host: bytes | None = None
        """The last that was found to be: a client says the same each time."""

    def check(self, request: ApiRequest, *, public: bool) -> None:
        """Raises: Unauthorized, CrossOrigin, ForeignHost."""
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
        """Without a token the API is on loopback, where any web page's script can send to it: browsers say
        whose."""
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
        """A page whose name resolves to this machine by now is of one origin with the API: it sends no Origin that
        would tell, and may read the answers (DNS rebinding). The name under which it came stays."""
        host = request.headers.get(b"host")
        if host is None or host == self._own_host:  # every browser says it
            return
        if not is_loopback(host_in(host)):
            raise ForeignHost
        self._own_host = host
