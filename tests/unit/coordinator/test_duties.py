"""The loop of a duty."""

from __future__ import annotations

import asyncio

import pytest

from pointsman.coordinator.duties import keep
from pointsman.kernel.errors import StoreUnavailable


@pytest.mark.parametrize(
    ("error", "has_traceback"), [(StoreUnavailable("away"), False), (ValueError("a fault of ours"), True)]
)
async def test_a_duty_goes_on_whatever_happens_to_it(
    error: Exception, has_traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a fault of ours is worth a traceback."""
    tries = 0
    is_well = asyncio.Event()

    async def _look() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise error
        is_well.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(keep(_look, 0.001))
    await asyncio.wait_for(is_well.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(record.exc_info is not None, "look" in record.message) for record in caplog.records] == [
        (has_traceback, True)
    ] * 2
