"""What the doctor finds in PostgreSQL that no port can bring about: rows lost, added and moved by hand, settings."""

import pytest

from pointsman.doctor.examination import examine
from pointsman.doctor.findings import Counts, Finding
from pointsman.doctor.repair import repair
from pointsman.kernel.checksum import first_damage
from pointsman.ports.inspection import MailCount
from pointsman.stores.postgres.store import PostgresStore
from tests.unit.stores.postgres.helpers import connected, opened
from tests.unit.stores.postgres.test_damage import creation_of

BODY = b'{"call":"a#1","output":1}'
PACKED = b'{"call":"a#1","output":"' + b"0123456789abcdef" * 400 + b'"}'


async def look(store: PostgresStore) -> list[Finding]:
    return [f async for f in examine(store, Counts()) if f.level == "problem" and f.check in ("log", "mail", "rows")]


DAMAGES = {
    "a hole": ("DELETE FROM streams WHERE OF_RUN sequence = 3", "event 3 is missing (the log goes on with 4)", 3),
    "a lost tail": (
        "DELETE FROM streams WHERE OF_RUN sequence > 3",
        "the head says that there are 5 events, the log ends with event 3", 4,
    ),
    "rows behind the head": (
        "UPDATE runs SET sequence = 3 WHERE id = 'r'",
        "the head says that there are 3 events, and the log has event 4, a CallCompleted", 4,
    ),
    "exchanged rows": (
        "UPDATE streams SET sequence = -3 WHERE OF_RUN sequence = 3;"
        "UPDATE streams SET sequence = 3 WHERE OF_RUN sequence = 4;"
        "UPDATE streams SET sequence = 4 WHERE OF_RUN sequence = -3",
        "event 3, a CallCompleted, is not what was appended", 3,
    ),
    "a packed body cut short": (
        "UPDATE streams SET packed = substr(packed, 1, 20) WHERE OF_RUN sequence = 4",
        "event 4, a CallCompleted, can't be read", 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
async def test_what_was_done_to_a_log_by_hand_is_found_and_mended(name: str, fresh_database: str) -> None:
    sql, message, first = DAMAGES[name]
    async with opened(fresh_database) as store, connected(fresh_database) as connection:
        await store.log.append([creation_of("r", [BODY, BODY, BODY, PACKED, BODY]), creation_of("good", [BODY])])
        assert await look(store) == []
        of_run = "number = (SELECT number FROM runs WHERE id = 'r') AND"
        await connection.execute(sql.replace("OF_RUN", of_run))
        (finding,) = await look(store)
        assert finding.run == "r"
        assert message in finding.message
        stood = await connection.fetchval(f"SELECT count(*) FROM streams WHERE {of_run} sequence >= $1", first)
        done = await repair(store, "r", store.clock.now())
        assert done.did
        assert await look(store) == []
        rows = await store.log.read("r")
        assert [row.sequence for row in rows] == list(range(1, first + 1))
        assert rows[-1].type == "LogRepaired"
        assert first_damage("r", rows, first) is None
        assert await store.inspection.moved_away("r") == stood
        assert (
            await connection.fetchval("SELECT count(*) FROM quarantined_events WHERE reason = $1", finding.message)
            == stood
        )


async def test_lost_mail_is_found_and_counted_again(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as connection:
        await store.log.append([creation_of("r", [BODY])])
        for key in "abc":
            await store.mailbox.post("r", key, "signal", b"{}")
        await connection.execute("DELETE FROM mailbox WHERE key = 'b'")
        (finding,) = await look(store)
        assert (
            "counts 3 mails and 0 of them as read, its mailbox holds 2 unread ones, up to number 3" in finding.message
        )
        await connection.execute("DELETE FROM mailbox WHERE key = 'c'")
        assert (await repair(store, "r", 0)).did == ["its mail was counted again, up to number 1"]
        assert await look(store) == []


async def test_mail_that_was_read_may_go(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as connection:
        await store.log.append([creation_of("r", [BODY])])
        for key in "abc":
            await store.mailbox.post("r", key, "signal", b"{}")
        await connection.execute("UPDATE runs SET folded = 2; DELETE FROM mailbox WHERE key <> 'c'")
        assert await look(store) == []
        await connection.execute("DELETE FROM mailbox")
        assert await store.inspection.mail_counts(limit=10) == [MailCount("r", 3, 2, 0, 2)]
        await repair(store, "r", 0)
        assert await look(store) == []


async def test_rows_of_no_run_are_found(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as connection:
        await store.log.append([creation_of("r", [BODY]), creation_of("s", [BODY])])
        await connection.execute(
            "INSERT INTO mailbox (run, key, kind, body, number) VALUES ('nobody', 'k', 'signal', '', 1);"
            "INSERT INTO reservations (number, sequence, tranche) VALUES (99, 1, 't');"
            "UPDATE runs SET bucket = 7 WHERE id = 's'"
        )
        strays = {stray.kind: stray.of for stray in await store.inspection.strays(limit=10)}
    assert strays == {"events": "run s, bucket 0", "mail": "nobody", "reservations": "tranche t, number 99"}


async def test_settings_that_lose_data_are_named_with_what_to_do(fresh_database: str) -> None:
    name = fresh_database.rpartition("/")[2]
    async with opened(fresh_database) as store:
        facts = {fact.name: fact for fact in await store.inspection.facts()}
        assert facts["synchronous_commit"].advice == facts["wal_level"].advice == facts["connections"].advice == ""
        assert facts["fsync"].value == "off", "as all servers of these tests"
        assert "set fsync = on" in facts["fsync"].advice
        assert facts["schema"].value.startswith("migration ")
        assert abs(int(facts["clock_offset_ms"].value)) < 60_000
    async with connected(fresh_database) as connection:
        await connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    async with opened(fresh_database) as store:
        facts = {fact.name: fact for fact in await store.inspection.facts()}
    assert "lost in a crash" in facts["synchronous_commit"].advice
