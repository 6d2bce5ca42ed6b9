"""Which addresses agents may have: the text of a URL, and the address that it resolves to."""

from __future__ import annotations

import pytest

from pointsman.agents.addresses import AddressRefused, AgentAddresses

PUBLIC = AgentAddresses()

INSIDE = [
    "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "0.0.0.0",
    "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fc00::1",
    "fd12::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001::1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside_are_refused_in_urls_and_when_a_name_resolves_to_them(address: str) -> None:
    shown = f"[{address}]" if ":" in address else address
    with pytest.raises(AddressRefused):
        PUBLIC.check_url(f"http://{shown}/agent")
    with pytest.raises(AddressRefused):
        PUBLIC.check_address(address)
    with pytest.raises(AddressRefused):
        AgentAddresses(allow=("agents.example.org",)).check_address(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_allowed(address: str) -> None:
    PUBLIC.check_address(address)
    PUBLIC.check_url(f"https://[{address}]/x" if ":" in address else f"https://{address}/x")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.org/", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("example.org", "http:// or https://"),
        ("http://", "neither a host name"),
        ("http://user:secret@example.org/", "leave them out"),
        ("http://user@example.org/", "leave them out"),
        ("http://example.org:0/", "port 0"),
        ("http://example.org:99999/", "Port out of range"),
        ("http://example.org/#part", "never sent"),
        ("http://exa mple.org/", "printable ASCII"),
        ("http://example.org/\r\nHost: inside", "printable ASCII"),
        ("http://еxample.org/", "printable ASCII"),
        ("http://example.org\\@127.0.0.1/", "printable ASCII"),
        ("http://127.1/", "neither a host name"),
        ("http://2130706433/", "neither a host name"),
        ("http://0x7f000001/", "neither a host name"),
        ("http://0177.0.0.1/", "neither a host name"),
        ("http://[::1%25eth0]/", "neither a host name"),
        ("http://localhost:8000/", "loopback"),
        ("http://LOCALHOST./", "loopback"),
        ("http://a.localhost/", "loopback"),
        ("http://example.org/" + "x" * 3_000, "2048"),
    ],
)
def test_urls_that_are_none_or_lead_elsewhere(url: str, said: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        PUBLIC.check_url(url)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


LISTED = AgentAddresses(
    allow=("agents.example.org", "api.example.net:8443", "*.corp.example", "10.1.0.0/16", "192.168.0.7", "[fd00::7]:80")
)


@pytest.mark.parametrize(
    "url",
    [
        "http://agents.example.org/a", "https://AGENTS.example.org.:9000/a", "https://api.example.net:8443/",
        "http://x.corp.example/", "http://x.y.corp.example/", "http://10.1.2.3:9/", "http://[::ffff:10.1.2.3]/",
        "http://192.168.0.7/", "http://[fd00::7]/",
    ],
)  # fmt: skip
def test_what_is_listed_is_allowed(url: str) -> None:
    LISTED.check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "http://evil-agents.example.org/", "http://agents.example.org.evil.net/",
        "https://api.example.net/", "http://corp.example/", "http://notcorp.example/", "http://10.2.0.1/",
        "http://192.168.0.8/", "http://[fd00::7]:81/", "http://8.8.8.8/",
    ],
)  # fmt: skip
def test_with_a_list_nothing_else_is_allowed(url: str) -> None:
    with pytest.raises(AddressRefused, match="not on the allowlist"):
        LISTED.check_url(url)


def test_a_listed_name_may_resolve_to_listed_private_addresses_only() -> None:
    LISTED.check_address("10.1.9.9")
    LISTED.check_address("8.8.8.8")
    with pytest.raises(AddressRefused, match="private"):
        LISTED.check_address("10.2.0.1")
    with pytest.raises(AddressRefused, match="loopback"):
        LISTED.check_address("127.0.0.1")


def test_private_addresses_can_be_allowed_but_not_where_clouds_keep_credentials() -> None:
    private = AgentAddresses(allow_private=True)
    for address in ("127.0.0.1", "10.0.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"):
        private.check_address(address)
    private.check_url("http://localhost:8000/")
    for address in ("169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "::", "64:ff9b::a9fe:a9fe"):
        with pytest.raises(AddressRefused):
            private.check_address(address)
    AgentAddresses(allow=("169.254.0.0/16",)).check_url("http://169.254.169.254/")


@pytest.mark.parametrize(
    "entry", ["", "http://x.org", "x.org:port", "x.org:0", "10.0.0.1/8", "*", "*.*.org", "a b", "127.1"]
)
def test_a_list_with_an_entry_that_is_none(entry: str) -> None:
    with pytest.raises(ValueError, match=r"is no|a host"):
        AgentAddresses(allow=(entry,))
