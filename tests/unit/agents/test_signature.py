"""A signature as a schema: what goes in and out, and what does not."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import BaseModel, computed_field

from pointsman.agents.agent import Context
from pointsman.agents.signature import Signature
from pointsman.kernel.errors import InvalidInput, InvalidValue


class Line(BaseModel):
    price: float
    note: str | None = None


async def sell(line: Line, count: int, ctx: Context, tags: list[str] | None = None) -> dict[str, Any]:
    return {"line": line, "count": count, "ctx": ctx, "tags": tags}


async def one(line: Line) -> Line:
    return line


async def nothing() -> None: ...


def signature(function: Any) -> Signature:
    return Signature(function, given=Context, bytes_max=10_000)


def test_several_parameters_are_an_object_by_name_and_the_context_is_none_of_them() -> None:
    sells = signature(sell)
    data = sells.encode_input([Line(price=1.5)], {"count": 2})
    assert data == b'{"count":2,"line":{"note":null,"price":1.5}}'
    assert sells.decode_input(data) == {"line": Line(price=1.5), "count": 2}
    assert sells.given == "ctx"


def test_one_parameter_is_its_value_and_none_is_null() -> None:
    assert signature(one).encode_input([Line(price=1)], {}) == b'{"note":null,"price":1.0}'
    assert signature(nothing).encode_input([], {}) == b"null"
    assert signature(nothing).decode_input(b"null") == {}


@pytest.mark.parametrize(
    "value", [math.nan, {"a": math.inf}, {"a": None, "b": [math.nan]}, Line(price=math.nan), [Line(price=math.inf)]]
)
def test_nan_is_refused_wherever_pydantic_would_write_null(value: Any) -> None:
    with pytest.raises(InvalidValue, match="NaN"):
        signature(sell).encode_output({"x": value})
    if isinstance(value, Line):
        with pytest.raises(InvalidValue, match="NaN"):
            signature(one).encode_input([value], {})


@pytest.mark.parametrize(
    ("args", "kwargs"), [([], {}), ([1, 2, 3, 4], {}), ([1], {"line": 2}), ([1, 2], {"nobody": 1})]
)
def test_arguments_that_do_not_fit_are_refused_by_name(args: list[Any], kwargs: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        signature(sell).encode_input(args, kwargs)


@pytest.mark.parametrize(
    "data", [b'{"count":1}', b'{"line":{"price":1},"count":1,"x":1}', b'{"line":{"price":"a"},"count":1}']
)
def test_input_that_does_not_fit_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        signature(sell).check_input(data)


class Broken(BaseModel):
    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        raise KeyError("total")


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def ring() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [nested(500), ring(), Broken(), object()], ids=["deep", "ring", "field", "object"])
def test_what_no_json_can_be_made_of_is_an_invalid_value_whatever_it_fails_with(value: Any) -> None:
    async def anything() -> Any: ...

    with pytest.raises(InvalidValue, match="anything"):
        signature(anything).encode_output(value)
