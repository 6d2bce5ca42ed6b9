"""The piece format: any pieces are rebuilt exactly, and only backwards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.kernel import events as ev
from pointsman.kernel.errors import CorruptLog
from pointsman.kernel.pieces import INLINE_BYTES_MAX, rebuild, split_body
from pointsman.kernel.values import encode

BODIES = {1: b'{"output":{"text":"one two three"}}', 2: b'{"x":[9]}\nraw\ntail'}


def test_copies_and_literals_are_put_together() -> None:
    pieces = ((1,), (1, 19, 13), (2,), (2, 10, 3))
    assert rebuild(pieces, b'"!?', 3, BODIES.__getitem__) == b'"one two three!?raw'


@pytest.mark.parametrize(
    ("pieces", "tail"),
    [(((3, 0, 1),), b""), (((4, 0, 1),), b""), (((1, 0, 10_000),), b""), (((0, 0, 1),), b""), (((1, -1, 1),), b""),
     (((1, 2),), b""), (((5,),), b"four"), (((3,),), b"four")],
)  # fmt: skip
def test_a_piece_that_points_nowhere_is_corruption(pieces: tuple[tuple[int, ...], ...], tail: bytes) -> None:
    with pytest.raises(CorruptLog):
        rebuild(pieces, tail, 3, BODIES.__getitem__)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=6_000))
def test_an_input_is_rebuilt_exactly(text: str) -> None:
    data = encode(text)
    event, tail = ev.with_input(ev.CallRequested, data, call="a#1", target="a")
    body = ev.encode_event(event, tail)
    row = ev.Recorded(2, 0, "CallRequested", 1, body)
    read = ev.decode_event(row)
    assert isinstance(read, ev.CallRequested)
    if len(data) <= INLINE_BYTES_MAX:
        assert bytes(read.input) == data
        assert b"\n" not in body
    else:
        assert rebuild(read.pieces, split_body(body)[1], 2, BODIES.__getitem__) == data
