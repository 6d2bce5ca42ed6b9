"""What a run may be found by has limits, whoever starts it."""

from typing import Any

import pytest

from pointsman import App, CoordinatorSettings, Run, StartRun
from pointsman.kernel.errors import InvalidValue, ValueTooLarge
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.store import MemoryStore

app = App("attributes")


@app.workflow()
async def echo(run: Run, text: str) -> str:
    return text


WITHIN: dict[str, Any] = {"k" * 64: "x" * 15_700, **{f"k{n}": [n, None] for n in range(10)}}
OVER = [
    ({f"k{n}": n for n in range(33)}, InvalidValue, "33 attributes; the limit is 32 \\(attributes_max\\)"),
    ({"k" * 65: 1}, InvalidValue, "1 to 64 characters \\(attribute_key_chars_max\\)"),
    ({"": 1}, InvalidValue, "1 to 64 characters"),
    ({"text": "x" * 16_000}, ValueTooLarge, "the limit is 16000"),
]


@pytest.mark.parametrize(("attributes", "error", "message"), OVER)
async def test_attributes_over_a_limit_are_refused(
    attributes: dict[str, Any], error: type[InvalidValue], message: str
) -> None:
    async with app.running(MemoryStore(MemoryDatabase())) as runs:
        with pytest.raises(error, match=message):
            await runs.start(StartRun("echo", b'"a"', id="a", attributes=attributes))
        assert (await runs.start(StartRun("echo", b'"a"', id="a", attributes=WITHIN))).created


async def test_each_limit_can_be_set() -> None:
    more = CoordinatorSettings(attributes_max=33, attribute_key_chars_max=65, attributes_bytes_max=17_000)
    async with app.running(MemoryStore(MemoryDatabase()), more) as runs:
        for attributes, _, _ in OVER:
            if "" not in attributes:
                assert (await runs.start(StartRun("echo", b'"a"', attributes=attributes))).created
