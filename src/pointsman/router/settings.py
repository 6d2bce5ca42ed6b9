"""The router's settings: every limit and deadline, with its unit in its name.

Must not know who uses them.
"""

from __future__ import annotations

import ipaddress
import math

import msgspec


class InvalidRouterSettings(ValueError):
    """The router's settings contradict each other or leave it open to anybody; the message names the setting."""


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the router serves.

    Attributes:
        host: address to bind; anything but loopback needs a token.
        port: 0 for any free one (`RouterService.port` tells which).
        token: what `Authorization: Bearer` must carry on every request but /health and /ready. It is passed on, because
            the coordinators check it too. None: no token is needed.
        announce_token: the token with which coordinators announce themselves, if it is not `token`: whoever may
            announce receives requests.
        coordinators: addresses (host:port) that are always tried, announced or not.
        silent_s: an announced coordinator that was silent for this long is not used, and the requests that wait for it
            are sent elsewhere. Coordinators announce themselves every 0.5 s.
        silence_every_s: how often to check which coordinators are silent.
        forget_s: a coordinator that was silent for this long is no longer listed.
        down_s: after a refused connection, nothing is sent to the address for this long; then one probe.
        coordinators_max: coordinators announced at the same time; further names are refused.
        probe_every_s: how often to ask each coordinator for /health, in the same way as requests are sent.
        probe_timeout_s: a coordinator that does not answer a probe within this time counts as silent.
        retry_for_s: how long a request that no coordinator took is tried again before it gets 503.
        backoff_s: pause after all coordinators were tried.
        breaks_max: connections that may break under one request; after that it may be the request that kills its
            coordinator, and it gets 502.
        header_bytes_max: bytes of the request line and headers of one request (431).
        body_bytes_max: bytes of the body of one request (413); it is held for retries until the response is passed on.
        bodies_bytes_max: bytes of all bodies held at the same time, of all clients (503).
        response_header_bytes_max: bytes of the status line and headers of a coordinator's response (502).
        held_response_bytes_max: a response with a Content-Length of at most this is held back until it is complete: a
            coordinator that dies in the middle of it costs a retry, not an error. Longer ones, and those without a
            Content-Length, are passed on as they come. Each client connection may take this much memory.
        connections_max: client connections; the next one gets 503.
        headers_timeout_s: from a request's first byte to the end of its headers (408).
        body_timeout_s: from the end of its headers to the end of its body (408).
        idle_timeout_s: how long a client connection may be open without a request under way.
        write_timeout_s: how long a client may take nothing of what is sent to it.
        connect_timeout_s: how long opening a connection to a coordinator may take.
        response_timeout_s: from the end of a request to the response's headers, or to its end if it is held back
            (504). Longer than the longest wait for a result.
        stream_idle_timeout_s: how long a response that is passed on as it comes may pause; None: no limit.
        upstream_idle_s: connections to coordinators that were unused for this long are closed. Must be shorter than the
            coordinators' own keep-alive.
        upstream_idle_max: unused connections kept for each coordinator.
        linger_s: how long, after an error in the middle of a request, the rest of the request is read and dropped, so
            that the client can read the error.
        sweep_every_s: how often to check deadlines; each may be exceeded by this much.
        stop_timeout_s: how long requests in flight may take once the router stops.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    announce_token: str | None = None
    coordinators: tuple[str, ...] = ()
    silent_s: float = 1.5
    silence_every_s: float = 0.1
    forget_s: float = 60.0
    down_s: float = 0.5
    coordinators_max: int = 1_000
    probe_every_s: float = 0.5
    probe_timeout_s: float = 1.0
    retry_for_s: float = 5.0
    backoff_s: float = 0.05
    breaks_max: int = 6
    header_bytes_max: int = 32_768
    body_bytes_max: int = 1_100_000
    bodies_bytes_max: int = 256_000_000
    response_header_bytes_max: int = 65_536
    held_response_bytes_max: int = 65_536
    connections_max: int = 4_096
    headers_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 60.0
    connect_timeout_s: float = 1.0
    response_timeout_s: float = 330.0
    stream_idle_timeout_s: float | None = None
    upstream_idle_s: float = 20.0
    upstream_idle_max: int = 1_024
    linger_s: float = 2.0
    sweep_every_s: float = 1.0
    stop_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        """Raises: InvalidRouterSettings."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int | float) and (value < 0 or not math.isfinite(value)):
                raise InvalidRouterSettings(f"{name} is {value}; it must be finite and not negative")
        for name in ("sweep_every_s", "silence_every_s", "backoff_s", "probe_every_s"):
            if getattr(self, name) == 0:
                raise InvalidRouterSettings(f"{name} must be above 0, or the router only spins")
        if self.token == "" or self.announce_token == "":
            raise InvalidRouterSettings("a token is empty; give one, or None")
        if self.token is None and not is_loopback(self.host):
            raise InvalidRouterSettings(
                f"host {self.host!r} is reachable from other machines; set a token, or bind 127.0.0.1"
            )
        for address in self.coordinators:
            parse_address(address)


def host_in(header: bytes) -> str:
    """The host in a Host header, without port and brackets."""
    text = header.decode("latin-1").strip()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`.

    Raises: InvalidRouterSettings.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    sound = colon and host and host.isascii() and host.isprintable() and port.isascii() and port.isdigit()
    if not sound or len(port) > 5 or not 0 < int(port) < 65_536:
        raise InvalidRouterSettings(f"{address[:100]!r} is no address; write host:port, or [v6]:port")
    return host, int(port)
