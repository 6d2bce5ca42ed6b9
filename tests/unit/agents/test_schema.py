"""Agents that registered with JSON Schema: their inputs and outputs, and schemas that mean harm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.agents.schema import CHECKS_MAX, SCHEMA_DEPTH_MAX, InvalidSchema, SchemaSignature
from pointsman.kernel.errors import InvalidInput, InvalidValue, ValueTooLarge
from pointsman.kernel.values import decode, encode

TICKET = {"type": "object", "properties": {"rows": {"items": {"type": "integer"}}}, "required": ["rows"]}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def signature(
    takes: dict[str, Any] | None = None, gives: dict[str, Any] | None = None, **options: Any
) -> SchemaSignature:
    return SchemaSignature("clerk", takes or {}, gives or {}, **options)


def test_arguments_become_json() -> None:
    s = signature()
    assert s.encode_input([{"b": 1, "a": 2}], {}) == b'{"a":2,"b":1}'
    assert s.encode_input([], {"b": 1, "a": [2]}) == b'{"a":[2],"b":1}'
    assert s.encode_input([], {}) == b"null"
    assert s.encode_input([None], {}) == b"null"
    assert s.encode_input([[]], {}) == b"[]"
    for args, kwargs in (([1, 2], {}), ([1], {"a": 1})):
        with pytest.raises(InvalidInput, match="clerk takes one value"):
            s.encode_input(args, kwargs)
    with pytest.raises(InvalidValue):
        s.encode_input([float("nan")], {})
    with pytest.raises(ValueTooLarge):
        signature(bytes_max=10).encode_input(["x" * 20], {})


def test_what_an_earlier_registration_took_is_still_encoded() -> None:
    assert signature(TICKET).encode_input([5], {}) == b"5"


def test_the_first_error_is_named_with_its_place() -> None:
    s = signature(TICKET, TICKET)
    s.check_input(b'{"rows":[1,2]}')
    assert s.decode_output(b'{"rows":[1]}') == {"rows": [1]}
    with pytest.raises(InvalidInput, match=r'^clerk: rows\.1: "x" is not of type "integer"'):
        s.check_input(b'{"rows":[1,"x"]}')
    with pytest.raises(InvalidInput, match=r'^the result of clerk: "rows" is a required property'):
        s.check_output(b"{}")
    with pytest.raises(InvalidInput, match="not JSON"):
        s.check_output(b"{")
    assert s.decode_output(b"{}") == {}, "what was recorded is read, whatever the schema is today"
    with pytest.raises(InvalidInput):
        s.encode_output({})
    assert s.encode_output({"rows": []}) == b'{"rows":[]}'


@given(VALUES)
def test_an_empty_schema_fits_anything_and_changes_nothing(value: object) -> None:
    s, data = signature(), encode(value)
    s.check_input(data)
    assert s.decode_output(data) == decode(data)
    assert s.same_input(data, data)


def test_inputs_are_compared_as_json() -> None:
    s = signature()
    assert s.same_input(b'{"a":1,"b":[2.0]}', b'{"b":[2],"a":1.0}')
    assert not s.same_input(b"[true]", b"[1]")
    assert not s.same_input(b'{"a":false}', b'{"a":0}')


def doubling(steps: int, keyword: str) -> dict[str, Any]:
    """Each definition refers twice to the one before."""
    defs: dict[str, Any] = {"d0": {"type": "string"}}
    for n in range(1, steps + 1):
        defs[f"d{n}"] = {keyword: [{"$ref": f"#/$defs/d{n - 1}"}, {"$ref": f"#/$defs/d{n - 1}"}]}
    return {"$defs": defs, "properties": {"x": {"$ref": f"#/$defs/d{steps}"}}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "nothing"}, "nothing"),
        ({"properties": []}, "object"),
        ({"pattern": "("}, "regex"),
        ({"pattern": "(a{200}){200}"}, "regex"),
        ({"$ref": "#/$defs/missing"}, "missing"),
        ({"$ref": "http://169.254.169.254/latest"}, "nothing is fetched"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "nothing is fetched"),
        ({"anyOf": [{"$dynamicRef": "other.json"}]}, "nothing is fetched"),
        ({"$id": "http://x.org/a", "$ref": "b"}, "nothing is fetched"),
        ({"$defs": {"a": {"$id": "http://x.org/b"}}}, "document within"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "2020-12"),
        ({"$schema": 7}, "2020-12"),
        ({"const": float("nan")}, "can't be stored"),
        ({"const": 2**60}, "can't be stored"),
        ({"const": "\x00"}, "can't be stored"),
        ({"description": "x" * 70_000}, "65536"),
        (nested(SCHEMA_DEPTH_MAX + 1), "nested deeper"),
        (nested(500), "deeper"),
        (doubling(20, "anyOf"), "references multiply"),
        (doubling(20, "allOf"), "references multiply"),
        (doubling(20, "oneOf"), "references multiply"),
    ],
)
def test_schemas_that_are_none_or_mean_harm(schema: dict[str, Any], said: str) -> None:
    for takes, gives, which in ((schema, {}, "input_schema"), ({}, schema, "output_schema")):
        with pytest.raises(InvalidSchema) as refused:
            signature(takes, gives)
        assert said in str(refused.value)
        assert str(refused.value).startswith(f"clerk: {which}")


def test_schemas_that_are_large_or_refer_to_themselves_are_no_harm() -> None:
    tree = {
        "$ref": "#/$defs/tree",
        "$defs": {"tree": {"type": "object", "properties": {"kids": {"items": {"$ref": "#/$defs/tree"}}}}},
    }
    s = signature(tree)
    s.check_input(b'{"kids":[{"kids":[{}]}]}')
    with pytest.raises(InvalidInput, match=r"kids\.0\.kids\.0"):
        s.check_input(b'{"kids":[{"kids":[3]}]}')
    signature(doubling(5, "anyOf"))
    signature({"anyOf": [{"const": n} for n in range(CHECKS_MAX - 2)]})
    signature({"allOf": [{"$ref": "#"}]}).check_input(b"1")
    signature({"$defs": {"a": {"$anchor": "a", "type": "string"}}, "$ref": "#a"}).check_input(b'"x"')
    signature({"properties": {"$ref": {"type": "string"}, "$id": {"type": "string"}}}).check_input(b'{"$ref":"x"}')


def test_a_pattern_can_not_keep_the_loop() -> None:
    with pytest.raises(InvalidInput):
        signature({"pattern": r"^(?=a)(a+)+\1$"}).check_input(encode("a" * 60 + "b"))
    backtracks = signature({"pattern": r"^((?=a)a+)+$|b$"})
    backtracks.check_input(encode("aaab"))
    with pytest.raises(InvalidInput):  # it would match, after some 2^16 steps
        backtracks.check_input(encode("a" * 16 + "b"))


def test_nothing_is_fetched_even_where_a_reference_gets_past_the_first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointsman.agents.schema._check_form", lambda schema, name: None)
    with pytest.raises(InvalidSchema, match="Retrieval is disabled"):
        signature({"$ref": "http://127.0.0.1:9/"})
