"""The parts that need no server: the parser of SQL files, the payload's codecs, the clock."""

from importlib import resources

import pytest

from pointsman.stores import payload
from pointsman.stores.postgres import PostgresSettings
from pointsman.stores.postgres.clock import PostgresClock
from pointsman.stores.queries import load, parse


def test_every_query_is_named_and_described() -> None:
    files = [file.name for file in resources.files("pointsman.stores.postgres").joinpath("sql").iterdir()]
    assert len(files) >= 5
    for name in files:
        queries = load("pointsman.stores.postgres", name.removesuffix(".sql"))
        assert queries
        assert not any("-- include" in text or not text.strip() for text in queries.values())


def test_includes_are_expanded_where_they_stand() -> None:
    queries = parse("-- name: a\n-- Does a.\nSELECT (\n    -- include: b\n)\n\n-- name: b\n-- Does b.\nSELECT 1,\n2\n")
    assert queries == {"a": "SELECT (\n    SELECT 1,\n    2\n)", "b": "SELECT 1,\n2"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-- name: a\nSELECT 1\n", "no description"),
        ("-- name: a\n-- x\nSELECT 1\n-- name: a\n-- x\nSELECT 1\n", "two queries"),
        ("-- name: a\n-- x\n-- include: b\n", "not there"),
    ],
)
def test_a_careless_file_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(text)


@pytest.mark.parametrize(
    ("body", "codec"),
    [
        (b"{}", None),
        (b'{"a":"' + b"x" * 2_552 + b'"}', None),
        (b'{"a":"' + b"x" * 2_553 + b'"}', payload.ZSTD),
        (b"", payload.RAW),
        (b"[1]", payload.RAW),
        (b'{"a":1}\ntail', payload.RAW),
        (b'{"pieces":[[2]]}\n{}', payload.RAW),
        (bytes(range(256)) * 8, payload.ZSTD),
    ],
)
def test_bodies_round_trip(body: bytes, codec: int | None) -> None:
    plain, packed, mark = payload.store(body, 2_560)
    assert mark == codec
    lines = payload.as_lines([b"{}", body, b'{"a":2}'], 2_560)
    assert lines == (b'{}\n%b\n{"a":2}' % body if codec is None else None)
    assert payload.load(plain or b"null", packed or b"", mark or payload.PLAIN) == body


def test_the_clock_follows_good_measurements_and_never_goes_back() -> None:
    clock = PostgresClock()
    here = clock.monotonic()
    clock.measured(5_000_000_000_000, here, here)
    first = clock.now()
    assert first >= 5_000_000_000_000
    clock.measured(1_000, here, here)
    assert clock.now() == first
    clock.measured(6_000_000_000_000, here, here)
    assert clock.now() >= 6_000_000_000_000


def test_a_slow_answer_does_not_move_the_clock() -> None:
    clock = PostgresClock()
    here = clock.monotonic()
    clock.measured(5_000_000_000_000, here, here + 0.0001)
    clock.measured(9_000_000_000_000, here - 1, here + 1)
    assert clock.now() < 5_000_001_000_000


def test_a_setting_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="readers=0"):
        PostgresSettings(readers=0)
