"""The Redis store against the suite, each case under a prefix of its own; and mutants of its scripts, which the cases
catch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pointsman.stores.redis import RedisStore, rows, session
from pointsman.stores.redis.scripts import Script, script_of
from pointsman.testing.conformance import CASES, Case, case_name, run_case, support
from tests.conformance.harnesses import RedisHarness
from tests.conformance.mutants.redis_store import MUTANTS, ScriptMutant
from tests.support.redis import redis_server
from tests.unit.stores.postgres.helpers import creation

BY_NAME = {case_name(case): case for case in CASES}


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Without a file: what a case commits need not outlive the server's process."""
    with redis_server("--appendonly", "no") as server:
        yield server.url


@pytest.mark.parametrize("case", CASES, ids=case_name)
async def test_conformance(case: Case, redis_url: str) -> None:
    await run_case(case, RedisHarness(redis_url, case_name(case)[:64]))


@pytest.mark.parametrize(
    ("mutant", "case"),
    [
        pytest.param(mutant, BY_NAME[name], id=f"{mutant.name}-{name}")
        for mutant in MUTANTS
        for name in mutant.caught_by
    ],
)
async def test_the_case_catches_the_mutant(
    mutant: ScriptMutant, case: Case, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "PATIENCE_S", 1.0)
    monkeypatch.setattr(session, "SCRIPTS", {**session.SCRIPTS, mutant.topic: _broken(mutant)})
    with pytest.raises(Exception):  # noqa: B017, PT011 (a broken store may fail in any way, as long as it fails)
        await run_case(case, RedisHarness(redis_url, f"{mutant.name}-{case_name(case)}"[:64]))


async def test_the_case_catches_who_believes_every_event_to_be_its_own(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nonce tells one's own append from another's with the same sequence."""
    monkeypatch.setattr(rows, "nonce", lambda raw: b"n" * 16)
    with pytest.raises(AssertionError):
        await run_case(BY_NAME["append.resolving_a_lost_reply"], RedisHarness(redis_url, "no-nonce"))


@pytest.mark.parametrize(
    "garbage", [b"", b"\x99", b"x" * 300, b"\x99" + b"\xc4" * 300, b"\x99" + b"\x01" * 7 + b"\xc6\xff"], ids=len
)
async def test_an_event_that_is_none_ends_no_script_and_hides_nothing(redis_url: str, garbage: bytes) -> None:
    """It counts with all that it has."""
    harness = RedisHarness(redis_url, f"garbage-{len(garbage)}")
    store = await harness.open()
    assert isinstance(store, RedisStore)
    await store.log.append([creation("run", bodies=[b"{}" * 50] * 30)])
    await store._session.command("LSET", f"garbage-{len(garbage)}:log:run", 1, garbage)
    whole = await store.log.read("run")
    assert [bool(row.damage) for row in whole] == [n == 1 for n in range(30)]
    assert len(await store.log.read("run", bytes_max=300 + len(garbage))) == 4
    assert await store.log.read("run", bytes_max=30 * 100 + len(garbage)) == whole
    await harness.close()


def _broken(mutant: ScriptMutant) -> Script:
    text = session.SCRIPTS[mutant.topic].text
    assert text.count(mutant.old) == 1
    return script_of(text.replace(mutant.old, mutant.new))
