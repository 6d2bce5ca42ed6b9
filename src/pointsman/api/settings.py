"""The settings of the HTTP API: every deadline and limit, with its unit in its name.

Must not know who uses them. Every setting has an effect, and a test that shows it.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec

from pointsman.api.errors import InsecureBind, InvalidSetting
from pointsman.kernel.values import DEPTH_MAX


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a coordinator serves HTTP.

    Attributes:
        host: address to bind; anything but loopback needs a token.
        port: 0 for any free one.
        token: what `Authorization: Bearer` must carry on every route but /health and /ready; None: no token is needed.
        header_bytes_max: bytes of the request line and headers of one request (431).
        headers_timeout_s: from a request's first byte to the end of its headers (408).
        body_timeout_s: from the end of its headers to the end of its body (408).
        idle_timeout_s: how long a connection may be open without a request under way. Must be longer than the idle time
            of a client's pool, or connections close under a client's request; the router's is 20 s.
        write_timeout_s: how long a client may take nothing of what is sent to it.
        connections_max: open connections; the next one gets 503.
        body_bytes_max: bytes of the body of one request, counted as it comes in (413).
        json_depth_max: levels of nesting of an input or payload (422).
        page_limit_default, page_limit_max: runs or events in one response.
        page_bytes_max: bytes of the events' data in one response; the event that reaches it is the last.
        wait_default_s, wait_max_s: how long a request for a result may wait for it.
        streams_max: live event streams (503).
        heartbeat_s: silence on a live event stream before a comment is sent.
        stop_timeout_s: how long requests in flight may take once the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    header_bytes_max: int = 32_768
    headers_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0
    connections_max: int = 4_096
    body_bytes_max: int = 1_100_000
    json_depth_max: int = DEPTH_MAX
    page_limit_default: int = 50
    page_limit_max: int = 500
    page_bytes_max: int = 4_000_000
    wait_default_s: float = 30.0
    wait_max_s: float = 300.0
    streams_max: int = 1_024
    heartbeat_s: float = 15.0
    stop_timeout_s: float = 10.0

    def validate(self) -> None:
        """Refuse values that would be unsafe or could not take effect.

        Raises:
            InsecureBind: a host that other machines can reach, and no token.
            InvalidSetting: a limit that is not positive, or contradicts another.
        """
        if self.token is None and not is_loopback(self.host):
            raise InsecureBind(
                f"binding {self.host!r} without a token would let anybody who reaches it start and read "
                "runs: set a token, or bind 127.0.0.1"
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise InvalidSetting("token is empty, or has characters that a header can't carry")
        if self.token is not None and self.token != self.token.strip():
            raise InvalidSetting("token begins or ends with a space, which no header carries")
        if not 0 <= self.port <= 65_535:
            raise InvalidSetting(f"port {self.port} is not between 0 and 65535")
        for name, value in self.limits().items():
            if not 0 < value < float("inf"):
                raise InvalidSetting(f"{name} is {value}; it must be a positive number")
        if self.json_depth_max > DEPTH_MAX:
            raise InvalidSetting(f"json_depth_max is {self.json_depth_max}; a value can't nest beyond {DEPTH_MAX}")
        if self.page_limit_default > self.page_limit_max or self.wait_default_s > self.wait_max_s:
            raise InvalidSetting("a default is above its maximum")

    def limits(self) -> dict[str, float]:
        """Every limit and deadline by name, as `/v1/coordinator` may show them; the token is not included."""
        return {
            name: getattr(self, name) for name in self.__struct_fields__ if name.endswith(("_s", "_max", "_default"))
        }

    def __repr__(self) -> str:
        shown: dict[str, Any] = {"host": self.host, "port": self.port, **self.limits()}
        shown["token"] = None if self.token is None else "***"
        return f"ApiSettings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def host_in(header: bytes) -> str:
    """The host in a Host header, without port and brackets."""
    text = header.decode("latin-1").strip()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether the host is an address or a name of this machine alone; a name that only happens to resolve to such an
    address is not.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
