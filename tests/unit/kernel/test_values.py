"""Values: one canonical form, and nothing accepted that a store could not hold."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, BaseModel, RootModel

from pointsman.kernel.errors import InvalidValue, ValueTooLarge
from pointsman.kernel.values import DEPTH_MAX, decode, digest, encode


class Model(BaseModel):
    x: float
    y: str | None = None


class Linked(BaseModel):
    at: AnyUrl
    x: float


class Odd(Enum):
    NUL = "a\x00b"


class Root(RootModel[Any]):
    """A model that is dumped as something else than an object."""


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


HOSTILE = {
    "nan": math.nan,
    "infinity": [{"x": math.inf}],
    "nan beside null": [None, math.nan],
    "nan in a model": Model(x=math.nan),
    "nan in a model below": {"a": None, "b": [Model(x=-math.inf)]},
    "nan beside what MessagePack does not have": Linked(at=AnyUrl("http://example.org"), x=math.nan),
    "nan as a model": Root(math.nan),
    "nul as a model": Root("a\x00b"),
    "nul as a model below": [Root("a\x00b")],
    "nul key in a model": Root({"a\x00b": 1}),
    "nul key in a model below": {"a": [Root({"a\x00b": 1})]},
    "big integer as a model": Root(2**53 + 1),
    "big integer as a key in a model": Root({2**53 + 1: 1}),
    "nul in an enum that is a key in a model": Root({Odd.NUL: 1}),
    "deep as a model": Root(nested(DEPTH_MAX + 1)),
    "surrogate": "\ud800",
    "surrogate key": {"\udfff": 1},
    "nul": "a\x00b",
    "nul key": {"\x00": 1},
    "big integer": 2**53 + 1,
    "huge integer": -(10**400),
    "big integer among others": {"a": 0.1, "b": [1, -(2**53) - 1]},
    "deep": nested(DEPTH_MAX + 1),
    "deep beside text that looks as if it were over": [["]" * DEPTH_MAX, nested(DEPTH_MAX)]],
    "deeper than the stack": nested(5_000),
    "no json": object(),
    "bytes in a set of complex": {1j},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values_are_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidValue):
        encode(HOSTILE[name])


@pytest.mark.parametrize(
    "text",
    [b"NaN", b"[Infinity]", b'"\\ud800"', b'"\\u0000"', b"9007199254740993", b"1e400", b"[" * 200 + b"]" * 200,
     b"[" * 100_000, b'{"a":1', b"\xff", b"", b"1" * 5_000,
     b'{"a": [1,\t9007199254740993]}', b"[\n-9007199254740993]"],
)  # fmt: skip
def test_hostile_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidValue):
        decode(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b'{"text":"\\ud83d"}', "a lone surrogate is not text"),
        (b'{"\\udfff":1}', "a lone surrogate is not text"),
        ('"\ud800"', "a lone surrogate is not text"),
        (b"[NaN]", "NaN and Infinity are not JSON"),
        (b'{"text":"\\ud83d', "not JSON: "),
    ],
)
def test_json_that_only_others_take_is_refused_for_what_is_wrong_with_it(text: bytes | str, named: str) -> None:
    with pytest.raises(InvalidValue, match=named):
        decode(text)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [None, 1],
        "nullify",
        "\\u0000 as text",
        2**53,
        -(2**53),
        nested(DEPTH_MAX),
        "𝄞",
        {"b": 1, "a": [0.5]},
        {"µs": 1_800_000_000_000_000, "text": ":9007199254740993", "share": 0.1 + 0.2},
        [{"a": [None]}] * DEPTH_MAX,
    ],
)
def test_ordinary_values_that_look_suspect_pass(value: Any) -> None:
    assert decode(encode(value)) == value


def test_keys_are_sorted_and_models_are_plain() -> None:
    assert encode({"b": Model(x=1), "a": 2}) == b'{"a":2,"b":{"x":1.0,"y":null}}'
    assert digest(encode({"b": 1, "a": 2})) == digest(encode({"a": 2, "b": 1}))


def test_size_is_a_limit() -> None:
    with pytest.raises(ValueTooLarge, match="limit is 10"):
        encode("x" * 20, bytes_max=10)
    with pytest.raises(ValueTooLarge):
        decode(b'"xxxxxxxxxxxxxxxxx"', bytes_max=10)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(json_values)
def test_what_is_accepted_comes_back(value: Any) -> None:
    encoded = encode(value)
    assert decode(encoded) == value
    assert encode(decode(encoded)) == encoded
