"""What stands in the URL of a Redis store."""

from __future__ import annotations

import pytest

from pointsman.stores.redis import InvalidRedisUrl, RedisSettings
from pointsman.stores.redis.settings import settings_of


def test_all_of_it_stands_in_the_url() -> None:
    said = settings_of("redis://user:word@host:1/3?prefix=p&unsafe=1&timeout_s=2.5&connections_max=4&plain_bytes_max=0")
    assert said == RedisSettings("redis://user:word@host:1/3", "p", True, 2.5, 4, 0)
    assert settings_of("rediss://host?ssl_cert_reqs=none") == RedisSettings("rediss://host?ssl_cert_reqs=none")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://", "is not redis://"),
        ("redis://host/db", "is not redis://"),
        ("redis://host?color=red", "?color= is not known here: prefix,"),
        ("redis://host?ssl_cert_reqs=none", "?ssl_cert_reqs= is not known here"),
        ("redis://host?prefix=a:b", "1 to 64 letters"),
        ("redis://host?prefix=", "1 to 64 letters"),
        ("redis://host?unsafe=yes", "0 or 1"),
        ("redis://host?timeout_s=0", "timeout_s='0': a number from 0.1 on"),
        ("redis://host?timeout_s=nan", "a number from 0.1 on"),
        ("redis://host?connections_max=1", "a number from 2 on"),
        ("redis://host?connections_max=2.5", "a number from 2 on"),
        ("redis://host?plain_bytes_max=-1", "a number from 0 on"),
    ],
)
def test_what_is_not_right_is_named(url: str, said: str) -> None:
    with pytest.raises(InvalidRedisUrl, match=r"\S") as raised:
        settings_of(url)
    assert said in str(raised.value)
