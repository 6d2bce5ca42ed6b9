"""The SQLite store's file: who may open it, what a kill leaves in it, and how operations share commits."""

import asyncio
import random
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from pointsman.kernel.errors import InvalidValue, SchemaDiffers, SchemaFromFuture, StoreInUse, StoreUnavailable
from pointsman.ports.event_log import NewEvent, Outcome
from pointsman.ports.inspection import MailCount
from pointsman.stores.postgres import PostgresStore
from pointsman.stores.sqlite import SqliteDatabase, SqliteSettings, SqliteStore
from pointsman.stores.urls import InvalidStoreUrl, is_sqlite, store_of
from pointsman.testing.conformance.support import DEFINITION, Coordinator, soon
from tests.unit.stores.sqlite.writing import WRITERS

ROOT = Path(__file__).parents[4]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Coordinator]:
    store = SqliteStore(path)
    await store.open()
    try:
        yield Coordinator(store, await store.liveness.register("a", "", [DEFINITION], ttl_ms=3_000))
    finally:
        await store.close()


async def test_a_kill_in_the_middle_of_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Real processes, SIGKILL, again and again on one file."""
    path, chance = tmp_path / "pointsman.db", random.Random(7)
    acknowledged: dict[str, int] = {}
    for turn in range(5):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.unit.stores.sqlite.writing", str(path), str(turn), cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        lines = [await process.stdout.readline() for _ in range(chance.randrange(200, 2_000))]
        process.send_signal(signal.SIGKILL)
        lines += (await process.stdout.read()).splitlines()
        await process.wait()
        said = [line.decode().split() for line in lines if len(line.split()) == 2]
        acknowledged |= {run: int(sequence) for run, sequence in said}
        async with opened(path) as a:
            for run, sequence in acknowledged.items():
                events = await a.stream(run)
                assert [event.sequence for event in events] == list(range(1, len(events) + 1))
                assert len(events) >= sequence
                assert len(events) % 3 == 2, "an append is there as a whole or not at all"
                assert (await a.head(run)).sequence == len(events)
            facts = await a.store.inspection.facts()
            assert not any(fact.advice for fact in facts)
            assert not await a.store.inspection.strays(limit=10)
    assert len(acknowledged) == 5 * WRITERS


async def test_runs_of_a_process_that_was_killed_are_taken_over_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pointsman.db"
    async with opened(path) as a:
        await a.moved(a.create("run"))
    async with opened(path) as b:
        assert b.number > a.number
        assert await soon(b.store.liveness.next_death(b.number)) == a.number
        ((head,), left) = await b.claim_orphans()
        assert (head.id, head.epoch, head.takeovers, left) == ("run", 2, 1, 0)
        assert await b.outcome(a.step("run", 1)) is Outcome.FENCED


async def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "pointsman.db"
    async with opened(path):
        second = SqliteStore(path)
        with pytest.raises(StoreInUse, match="stop it, or let several processes share a PostgreSQL"):
            await second.open()
        code = (
            "import asyncio, sys; from pointsman.stores.sqlite import SqliteStore; "
            "asyncio.run(SqliteStore(sys.argv[1]).open())"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        assert process.returncode == 1
        assert b"StoreInUse" in said
    async with opened(path):
        pass


async def test_what_is_no_file_of_ours_is_left_alone(tmp_path: Path) -> None:
    foreign, garbage, future = (tmp_path / name for name in ("foreign.db", "garbage.db", "future.db"))
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    garbage.write_bytes(b"this is a letter and no database" * 200)
    async with opened(future):
        pass
    connection = sqlite3.connect(future)
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    for path, error in (
        (foreign, StoreUnavailable), (garbage, StoreUnavailable), (future, SchemaFromFuture),
        (tmp_path / "no" / "such" / "place.db", StoreUnavailable),
    ):  # fmt: skip
        for _ in range(2):
            with pytest.raises(error):
                await SqliteStore(path).open()
    connection = sqlite3.connect(foreign)
    assert [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")] == ["theirs"]
    connection.close()


async def test_a_file_of_another_build_is_refused_and_what_others_put_into_it_is_theirs(tmp_path: Path) -> None:
    path = tmp_path / "pointsman.db"
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW open_runs AS SELECT id FROM runs WHERE ended_at IS NULL")
    async with opened(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE trials RENAME TO tried")
    with pytest.raises(SchemaDiffers, match="begin with a new file"):
        await SqliteStore(path).open()


async def test_a_file_that_is_refused_is_not_held_open(tmp_path: Path) -> None:
    """However long the error is kept."""
    garbage, future = tmp_path / "garbage.db", tmp_path / "future.db"
    garbage.write_bytes(b"this is a letter and no database" * 200)
    async with opened(future):
        pass
    with closing(sqlite3.connect(future)) as connection:
        connection.execute("PRAGMA user_version = 9999")
    for path, error in ((garbage, StoreUnavailable), (future, SchemaFromFuture)):
        with pytest.raises(error) as kept:
            await SqliteStore(path).open()
        assert [held for held in held_open() if held.name.startswith(path.name)] == [], kept


def held_open() -> list[Path]:
    """The files that this process has open."""
    files = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one that listed them
            files.append(descriptor.readlink())
    return files


async def test_mail_that_was_read_may_go_and_unread_mail_that_is_gone_is_found(tmp_path: Path) -> None:
    path = tmp_path / "pointsman.db"

    async def lose(where: str) -> list[MailCount]:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(f"DELETE FROM mailbox WHERE {where}")
        async with opened(path) as a:
            return await a.store.inspection.mail_counts(limit=10)

    async with opened(path) as a:
        await a.moved(a.create("run"))
        for key in "abc":
            await a.post("run", key)
        await a.moved(a.step("run", 1, folded=2))
    assert await lose("key <> 'c'") == []
    assert await lose("key = 'c'") == [MailCount("run", 3, 2, 0, 2)]
    async with opened(path) as a:
        assert await a.store.inspection.recount_mail("run", 1)
        assert await a.store.inspection.mail_counts(limit=10) == []


async def test_operations_that_meet_share_a_commit(tmp_path: Path) -> None:
    async with opened(tmp_path / "pointsman.db") as a:
        database = a.store.database  # type: ignore[attr-defined]
        seen: list[str] = []
        await database.call(lambda connection: connection.set_trace_callback(seen.append))
        await asyncio.gather(*(a.moved(a.create(f"run-{number}")) for number in range(300)))
        await database.call(lambda connection: connection.set_trace_callback(None))
        assert seen.count("COMMIT") < 30
        assert sum("INSERT INTO streams" in statement for statement in seen) == 300


async def test_an_operation_that_fails_takes_nothing_of_its_neighbours(tmp_path: Path) -> None:
    """And leaves nothing of itself, although it failed in the middle."""
    async with opened(tmp_path / "pointsman.db") as a:
        bad = a.create("bad", events=3)
        bad.events[2] = NewEvent("\ud800", 1, 1, b"{}")
        results = await asyncio.gather(
            a.moved(a.create("before")), a.store.log.append([a.create("with it"), bad]), a.moved(a.create("after")),
            return_exceptions=True,
        )  # fmt: skip
        assert isinstance(results[1], InvalidValue)
        assert sorted(await a.store.log.heads(["before", "after", "bad", "with it"])) == ["after", "before"]
        assert await a.stream("bad") == []
        assert await a.store.inspection.strays(limit=10) == []


async def test_a_full_disk_is_a_named_error_and_loses_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "pointsman.db") as a:
        database = a.store.database  # type: ignore[attr-defined]
        await a.moved(a.create("run"))
        pages = await database.call(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
        await database.call(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 20}").fetchall())
        large, sequence = random.Random(1).randbytes(20_000), 1

        async def fill() -> None:
            nonlocal sequence
            for _ in range(50):
                step = a.step("run", sequence)
                step.events = [NewEvent("Large", 1, 1, large)]
                await a.moved(step)
                sequence += 1

        with pytest.raises(StoreUnavailable):
            await fill()
        assert len(await a.stream("run")) == sequence
        await database.call(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchall())
        await a.moved(a.step("run", sequence))
        assert len(await a.stream("run")) == sequence + 1


async def test_stores_of_one_process_share_a_file_and_the_last_one_closes_it(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "pointsman.db", SqliteSettings(group_max=2))
    one, other = SqliteStore(database), SqliteStore(database)
    await one.open()
    await one.open()
    await other.open()
    await one.close()
    assert await other.log.heads(["nobody"]) == {}
    with pytest.raises(StoreInUse):
        await SqliteStore(tmp_path / "pointsman.db").open()
    await other.close()
    async with opened(tmp_path / "pointsman.db"):
        pass


def test_a_url_names_its_store() -> None:
    relative, absolute = store_of("sqlite:///here.db"), store_of("sqlite:////var/lib/there.db")
    assert isinstance(relative, SqliteStore)
    assert isinstance(absolute, SqliteStore)
    assert (str(relative.database.path), str(absolute.database.path)) == ("here.db", "/var/lib/there.db")
    for dsn in ("postgresql://user:secret@host/db", "postgres://host/db", "host=/tmp dbname=db"):
        assert isinstance(store_of(dsn), PostgresStore)
    for url in ("sqlite://here.db", "sqlite:here.db", "sqlite:///", "mysql://host/db"):
        with pytest.raises(InvalidStoreUrl, match=r"sqlite:///file\.db"):
            is_sqlite(url)


@pytest.mark.parametrize("name", ["group_max", "cache_mb", "wal_pages_max", "plain_json_bytes_max"])
def test_a_setting_that_makes_no_sense_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        SqliteSettings(**{name: 0})
