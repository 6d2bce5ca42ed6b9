"""Rows that were changed by hand: what can be read is read, and each row says what is wrong with it."""

from pointsman.kernel.checksum import beginning, first_damage
from pointsman.ports.event_log import Append, chained
from tests.unit.stores.postgres.helpers import connected, creation, opened

LARGE = b'{"call":"a#1"}\n' + b"0123456789abcdef" * 400


def creation_of(run: str, bodies: list[bytes]) -> Append:
    append, checksum = creation(run, bodies=bodies), beginning(run)
    for n, event in enumerate(append.events, 1):
        append.events[n - 1] = chained(
            checksum, n, append.epoch, type=event.type, version=event.version, at=event.at, body=event.body
        )
        checksum = append.events[n - 1].checksum
    return append


async def test_a_packed_body_that_is_damaged_does_not_hide_its_neighbours(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as connection:
        await store.log.append([creation_of("r", [b"{}", LARGE, b"{}"])])
        assert first_damage("r", await store.log.read("r"), 3) is None
        await connection.execute("UPDATE streams SET packed = substr(packed, 1, 20) WHERE sequence = 2")
        rows = await store.log.read("r")
        assert [bool(row.damage) for row in rows] == [False, True, False]
        damage = first_damage("r", rows, 3)
        assert damage is not None
        assert (damage.sequence, damage.kind) == (2, "unreadable")
        await connection.execute("UPDATE streams SET codec = 9 WHERE sequence = 2")
        assert "codec 9" in (await store.log.read("r"))[1].damage


async def test_a_body_changed_by_hand_is_seen_also_when_it_was_compressed(fresh_database: str) -> None:
    """The checksum is of the body as it was appended, whatever lies in the row."""
    async with opened(fresh_database) as store, connected(fresh_database) as connection:
        await store.log.append([creation_of("r", [b"{}", LARGE, b'{"a":1}'])])
        await connection.execute("UPDATE streams SET codec = 1, packed = $1 WHERE sequence = 2", LARGE)
        assert first_damage("r", await store.log.read("r"), 3) is None, "the same body, stored otherwise"
        await connection.execute("""UPDATE streams SET body = '{"a":2}' WHERE sequence = 3""")
        damage = first_damage("r", await store.log.read("r"), 3)
        assert damage is not None
        assert (damage.sequence, damage.kind) == (3, "changed")
