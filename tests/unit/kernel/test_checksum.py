"""Checksums: every change of a row is seen, and said at the right place."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.coordinator.driving.draft import chained
from pointsman.kernel import events as ev
from pointsman.kernel.checksum import Chain, beginning, first_damage, following
from pointsman.kernel.events import Recorded
from pointsman.kernel.requests import Produced


def stream(run: str = "r", count: int = 6) -> list[Recorded]:
    rows, checksum = [], beginning(run)
    for n in range(1, count + 1):
        body = b'{"call":"a#%d"}' % n
        checksum = following(checksum, n, 1_000 * n, "CallCompleted", 1, 2, body)
        rows.append(Recorded(n, 1_000 * n, "CallCompleted", 1, body, 2, checksum))
    return rows


def test_a_sound_stream_has_no_damage() -> None:
    assert first_damage("r", stream(), 6) is None


def test_a_stream_is_bound_to_its_run() -> None:
    damage = first_damage("another", stream(), 6)
    assert damage is not None
    assert (damage.sequence, damage.kind) == (1, "changed")


@pytest.mark.parametrize(
    "change",
    [
        {"at": 3_001},
        {"at": 3_000 + 2**40},
        {"type": "CallFailed"},
        {"version": 2},
        {"epoch": 3},
        {"body": b'{"call":"a#4"}'},
        {"checksum": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_column_is_seen_at_its_event(change: dict[str, object]) -> None:
    rows = stream()
    rows[2] = msgspec.structs.replace(rows[2], **change)
    damage = first_damage("r", rows, 6)
    assert damage is not None
    assert (damage.sequence, damage.kind) == (3, "changed")
    assert "event 3" in damage.message


@given(st.integers(0, 5), st.data())
def test_any_changed_byte_is_seen(place: int, data: st.DataObject) -> None:
    rows = stream()
    body = bytearray(rows[place].body)
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    rows[place] = msgspec.structs.replace(rows[place], body=bytes(body))
    damage = first_damage("r", rows, 6)
    assert damage is not None
    assert damage.sequence == place + 1


def test_exchanged_rows_are_seen() -> None:
    rows = stream()
    rows[2], rows[3] = (msgspec.structs.replace(rows[b], sequence=a) for a, b in ((3, 3), (4, 2)))
    damage = first_damage("r", rows, 6)
    assert damage is not None
    assert damage.sequence == 3


def test_a_hole_a_lost_tail_and_rows_behind_the_head_are_told_apart() -> None:
    rows = stream()
    cases = {
        "event 3 is missing (the log goes on with 4)": (rows[:2] + rows[3:], 6),
        "the head says that there are 6 events, the log ends with event 4": (rows[:4], 6),
        "the head says that there are 6 events, the log ends with nothing at all": ([], 6),
        "the head says that there are 4 events, and the log has event 5, a CallCompleted": (rows, 4),
    }
    for message, (damaged, head) in cases.items():
        damage = first_damage("r", damaged, head)
        assert damage is not None
        assert damage.message == message


def test_what_the_store_cannot_read_is_damage() -> None:
    rows = stream()
    rows[1] = msgspec.structs.replace(rows[1], body=b"", damage="a packed event is damaged")
    damage = first_damage("r", rows, 6)
    assert damage is not None
    assert (damage.sequence, damage.kind) == (2, "unreadable")
    assert "a packed event is damaged" in damage.message


def test_what_follows_a_damaged_event_is_judged_by_itself() -> None:
    """One changed body is one damaged event, not all from there on."""
    rows = stream()
    rows[2] = msgspec.structs.replace(rows[2], body=b"{}")
    chain = Chain("r")
    assert [row.sequence for row in rows if chain.look(row) is not None] == [3]


def test_a_part_of_a_stream_is_verified_from_where_it_begins() -> None:
    rows = stream()
    chain = Chain("r", 3, rows[2].checksum)
    assert [chain.look(row) for row in rows[3:]] == [None] * 3
    on_trust = Chain("r", 3)
    wrong = msgspec.structs.replace(rows[4], body=b"{}")
    assert [on_trust.look(row) is None for row in (rows[3], wrong)] == [True, False]


def test_what_an_owner_appends_is_what_a_reader_verifies() -> None:
    """The driver computes the same by itself, for speed."""
    started = ev.RunStarted(workflow="w", seed="s")
    failed = ev.RunFailed(failure=ev.Failure("kind"))
    produced = [Produced(event, 5_000 + n, ev.encode_event(event)) for n, event in enumerate((started, failed))]
    checksum = 2**32 - 1
    for n, event in enumerate(chained(produced, checksum, 7, 3)):
        checksum = following(checksum, 8 + n, event.at, event.type, event.version, 3, event.body)
        assert event.checksum == checksum
        assert (event.type, event.version, event.body) == (type(produced[n].event).__name__, 1, produced[n].body)
