"""Which addresses agents may have. A registered URL makes a coordinator send requests, so it must not become a way into
the coordinator's own network (SSRF).

A URL is judged twice: its text when the agent registers (`check_url`), and every address that its host resolves to when
a connection is made (`check_address`), because a name may resolve to another address by then (DNS rebinding).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from pointsman.ports.agents import InvalidCard

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_CHARS_MAX = 2_048
PORTS = {"http": 80, "https": 443}

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")
_URL_CHARS = re.compile(
    r"[!-~]+"
)  # printable ASCII: no spaces, no control characters, no letters that look like others
_NUMERIC_LABEL = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")
_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_LOOPBACK = IPv4Address("127.0.0.1")


class AddressRefused(InvalidCard):
    """Agents may not have this address; the operator's allowlist says which they may have."""

    code = "address_refused"


class _Rule(NamedTuple):
    """One entry of an allowlist: a host, a suffix of hosts (".example.org"), or a network; a port narrows it."""

    host: str = ""
    suffix: str = ""
    network: Network | None = None
    port: int | None = None

    def names(self, host: str, address: Address | None, port: int) -> bool:
        if self.port not in (None, port):
            return False
        if address is not None:
            return self.holds(address) or self.holds(_unwrap(address))
        return host == self.host if self.host else bool(self.suffix) and host.endswith(self.suffix)

    def holds(self, address: Address) -> bool:
        return self.network is not None and address.version == self.network.version and address in self.network


@dataclass(frozen=True)
class AgentAddresses:
    """The allowlist. Without any entry: every public address, and nothing private; that is of use at once, and reaches
    nothing that the whole internet could not reach.

    Attributes:
        allow: hosts (`agents.example.org`), suffixes (`*.example.org`), addresses and networks (`10.1.0.0/16`); all but
            networks may end in `:port`. With entries, a URL's host must be one of them, as it is written. One that is
            listed by name must still resolve to public addresses, or to such as are listed themselves: names are in the
            hands of whoever runs their DNS.
        allow_private: private and loopback addresses count as public. Link-local ones (where clouds keep credentials),
            multicast and reserved ones do not: only an entry of their own lets them in.

    Raises:
        ValueError: an entry that is none of these.
    """

    allow: tuple[str, ...] = ()
    allow_private: bool = False
    _rules: tuple[_Rule, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rules", tuple(_parse_rule(entry) for entry in self.allow))

    def check_url(self, url: str) -> None:
        """May an agent have this URL? Judged by its text alone: nothing is looked up.

        Raises:
            AddressRefused: what is wrong with it.
        """
        host, port = _split(url)
        address = _literal(host)
        if self._rules and not any(rule.names(host, address, port) for rule in self._rules):
            raise AddressRefused(f"{host}:{port} is not on the allowlist of agents' addresses: {', '.join(self.allow)}")
        if address is None and (host == "localhost" or host.endswith(".localhost")):
            address = _LOOPBACK  # by RFC 6761 it is nothing else
        if address is not None:
            self.check_address(address)

    def check_address(self, address: str | Address) -> None:
        """May a connection to a host whose URL was allowed be made to this address, which it resolved to just now?

        Raises:
            AddressRefused: why not.
        """
        given = ip_address(address.partition("%")[0]) if isinstance(address, str) else address
        plain = _unwrap(given)
        kind = _kind(plain)
        if not kind or any(rule.holds(plain) or rule.holds(given) for rule in self._rules):
            return
        if kind not in ("private", "loopback"):
            raise AddressRefused(f"{plain} is {kind}: agents may be there only if the allowlist holds it")
        if not self.allow_private:
            raise AddressRefused(
                f"{plain} is {kind}: agents may be there only if it is on the allowlist, or private ones are allowed"
            )


def _split(url: str) -> tuple[str, int]:
    """Host and port of a URL. Raises AddressRefused."""
    shown = url[:200]
    if len(url) > URL_CHARS_MAX or not _URL_CHARS.fullmatch(url) or "\\" in url:
        raise AddressRefused(f"{shown!r}: a URL is at most {URL_CHARS_MAX} printable ASCII characters, without '\\'")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError as error:
        raise AddressRefused(f"{shown!r} is no URL: {error}") from error
    if parts.scheme not in PORTS:
        raise AddressRefused(f"{shown!r}: agents are reached by http:// or https://")
    if "@" in parts.netloc:
        raise AddressRefused("a URL with a name or password in it would be shown to everybody; leave them out")
    if "#" in url:
        raise AddressRefused(f"{shown!r}: what stands after '#' is never sent; leave it out")
    if port == 0:
        raise AddressRefused(f"{shown!r}: there is no port 0")
    if _literal(host) is None and (not _HOST.fullmatch(host) or _NUMERIC_LABEL.fullmatch(host)):
        # 127.1, 0x7f000001 and 2130706433 are addresses to the resolver and names to everybody else
        raise AddressRefused(f"{shown!r}: {host!r} is neither a host name nor an address as it is usually written")
    return host, port or PORTS[parts.scheme]


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host) if "%" not in host else None
    except ValueError:
        return None


def _unwrap(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to: mapped, NAT64, 6to4."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _kind(address: Address) -> str:
    """Why it is not a public address; empty: it is one."""
    site_local = isinstance(address, IPv6Address) and (address.is_site_local or address in _NAT64_LOCAL)
    for kind, is_so in (
        ("link-local", address.is_link_local),
        ("loopback", address.is_loopback),
        ("multicast", address.is_multicast),
        ("reserved", address.is_unspecified or address.is_reserved),
        ("private", address.is_private or site_local or not address.is_global),
    ):
        if is_so:
            return kind
    return ""


def _parse_rule(entry: str) -> _Rule:
    try:
        return _Rule(network=ip_network(entry))
    except ValueError as error:
        if "/" in entry:
            raise ValueError(f"{entry!r} is no network: {error}") from error
    host, colon, port = entry.lower().rpartition(":")
    if not colon:
        host, port = entry.lower(), ""
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{entry!r}: {port!r} is no port")
    number = int(port) if port else None
    address = _literal(host.removeprefix("[").removesuffix("]"))
    if address is not None:
        return _Rule(network=ip_network(address), port=number)
    name = host.removeprefix("*.").rstrip(".")
    if not _HOST.fullmatch(name) or _NUMERIC_LABEL.fullmatch(name):
        raise ValueError(f"{entry!r}: a host, host:port, *.suffix, an address or a network (10.0.0.0/8)")
    return _Rule(suffix=f".{name}", port=number) if host.startswith("*.") else _Rule(host=name, port=number)
