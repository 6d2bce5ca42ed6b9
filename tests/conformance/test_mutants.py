"""Every guard has a mutant, and every case fails for one: a case that can't fail is a defect."""

import inspect
from typing import Any

import pytest

from pointsman.stores.inprocess.board import InProcessBoard
from pointsman.stores.inprocess.liveness import InProcessLiveness
from pointsman.stores.inprocess.wakeup import InProcessWakeup
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.stores.memory.event_log import MemoryEventLog
from pointsman.stores.memory.human_tasks import MemoryHumanTasks
from pointsman.stores.memory.inspection import MemoryInspection
from pointsman.stores.memory.mailbox import MemoryMailbox
from pointsman.stores.memory.notices import MemoryNotices
from pointsman.stores.memory.ownership import MemoryOwnership
from pointsman.stores.memory.reservations import MemoryReservations
from pointsman.stores.memory.retention import MemoryRetention
from pointsman.stores.memory.session import Session
from pointsman.stores.memory.states import MemoryStates
from pointsman.stores.memory.system_log import MemorySystemLog
from pointsman.testing import conformance
from pointsman.testing.conformance import CASES, Case, case_name, run_case, support
from tests.conformance.harnesses import MemoryHarness
from tests.conformance.mutants import (
    append,
    board,
    children,
    feed,
    generations,
    human_tasks,
    inspection,
    listing,
    liveness,
    mail,
    notices,
    ownership,
    reading,
    reservations,
    retention,
    states,
    system_log,
    values,
)

Mutant = type[Any]
"""It takes the place of the class that it derives from; its `caught_by` names the cases that must fail."""

THEMES = (
    append, reading, children, feed, listing, values, mail, ownership, liveness, system_log, board, human_tasks,
    notices, reservations, retention, inspection, generations, states,
)  # fmt: skip
MUTANTS: list[Mutant] = [
    item for theme in THEMES for item in vars(theme).values() if isinstance(item, type) and "caught_by" in vars(item)
]
BY_NAME = {case_name(case): case for case in CASES}
PAIRS = [
    pytest.param(mutant, BY_NAME[name], id=f"{mutant.__name__}-{name}")
    for mutant in MUTANTS
    for name in mutant.caught_by
]


@pytest.mark.parametrize(("mutant", "case"), PAIRS)
async def test_the_case_catches_the_mutant(mutant: Mutant, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "PATIENCE_S", 1.0)
    database = _part(mutant, MemoryDatabase)()
    with pytest.raises(Exception):  # noqa: B017, PT011 (a broken store may fail in any way, as long as it fails)
        await run_case(case, MemoryHarness(database, lambda shared: _store(mutant, shared)))


def test_every_case_catches_a_mutant() -> None:
    caught = {name for mutant in MUTANTS for name in mutant.caught_by}
    assert caught == set(BY_NAME), f"no mutant for {sorted(set(BY_NAME) - caught)}"


def test_no_case_is_forgotten() -> None:
    """Each public coroutine function of a theme is registered, once."""
    themes = [item for _, item in inspect.getmembers(conformance, inspect.ismodule) if hasattr(item, "CASES")]
    written = [
        function
        for theme in themes
        for name, function in inspect.getmembers(theme, inspect.iscoroutinefunction)
        if function.__module__ == theme.__name__ and not name.startswith("_")
    ]
    assert sorted(map(case_name, written)) == sorted(map(case_name, CASES))
    assert len(BY_NAME) == len(CASES)


def _part(mutant: Mutant, base: type[Any]) -> type[Any]:
    return mutant if issubclass(mutant, base) else base


def _store(mutant: Mutant, database: MemoryDatabase) -> MemoryStore:
    """A store whose one part is the mutant."""
    store: MemoryStore = _part(mutant, MemoryStore)(database)
    session = store._session
    session.__class__ = _part(mutant, Session)
    store._liveness = store.liveness = _part(mutant, InProcessLiveness)(session, store.clock)
    store.log = _part(mutant, MemoryEventLog)(session)
    store.mailbox = _part(mutant, MemoryMailbox)(session)
    store.ownership = _part(mutant, MemoryOwnership)(session)
    store.wakeup = _part(mutant, InProcessWakeup)(store._inbound, lambda: database.inbound)
    store.system = _part(mutant, MemorySystemLog)(session)
    store.board = _part(mutant, InProcessBoard)(session)
    store.human_tasks = _part(mutant, MemoryHumanTasks)(session)
    store.notices = _part(mutant, MemoryNotices)(session)
    store.reservations = _part(mutant, MemoryReservations)(session)
    store.states = _part(mutant, MemoryStates)(session)
    store.retention = _part(mutant, MemoryRetention)(session)
    store.inspection = _part(mutant, MemoryInspection)(session)
    return store
