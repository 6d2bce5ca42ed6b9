"""The feed: nothing is ever missed behind a transaction that commits late, and its index is used."""

import pytest

from tests.unit.stores.postgres.helpers import connected, creation, opened, step

pytestmark = pytest.mark.postgres


async def test_a_transaction_that_stays_open_holds_the_feed_back_and_leaves_no_gap(fresh_database: str) -> None:
    async with opened(fresh_database) as store, connected(fresh_database) as late:
        await store.log.append([creation("early")])
        await store.log.append([creation("late")])
        transaction = late.transaction()
        await transaction.start()
        await late.execute(
            "UPDATE runs SET sequence = 2 WHERE id = 'late';"
            "INSERT INTO streams (number, bucket, sequence, epoch, at, xid, checksum, version, type)"
            " SELECT number, bucket, 2, 1, 0, pg_current_xact_id()::text::bigint, 0, 1, 'Late' FROM runs"
            " WHERE id = 'late'"
        )
        await store.log.append([step("early", 1)])
        events, cursor = await store.log.feed()
        assert [(item.run, item.recorded.sequence) for item in events] == [("early", 1), ("late", 1)]
        assert await store.log.feed_lag_ms() >= 0
        assert (await store.log.feed(cursor=cursor))[0] == []
        await transaction.commit()
        events, cursor = await store.log.feed(cursor=cursor)
        assert [(item.run, item.recorded.sequence) for item in events] == [("late", 2), ("early", 2), ("early", 3)]
        assert (await store.log.feed(cursor=cursor))[0] == []


async def test_the_feed_does_not_care_how_far_apart_transactions_are(fresh_database: str) -> None:
    """Other writers of the cluster count transactions up between ours."""
    async with opened(fresh_database) as store, connected(fresh_database) as other:
        for number in range(3):
            await store.log.append([creation(f"run-{number}")])
            await other.execute(
                "DO $$ BEGIN FOR i IN 1..9000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
            )
        events, _ = await store.log.feed()
        assert [item.run for item in events] == ["run-0", "run-1", "run-2"]
        cursor = None
        for number in range(3):
            events, cursor = await store.log.feed(cursor=cursor, limit=1)
            assert [item.run for item in events] == [f"run-{number}"]
