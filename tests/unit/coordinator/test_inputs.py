"""Every input can be shown in full, though the log holds a large one as copies of copies, on other pages."""

from __future__ import annotations

import msgspec
import pytest

from pointsman import App, CoordinatorSettings, Run, StartRun
from pointsman.coordinator.verbs import runs as verbs
from pointsman.coordinator.verbs.runs import CoordinatorRuns
from pointsman.kernel.pieces import sources_of
from pointsman.stores.memory.database import MemoryDatabase
from pointsman.stores.memory.store import MemoryStore

app = App("inputs")
sent: list[list[str]] = []


@app.agent
async def speak(messages: list[str]) -> str:
    sent.append(list(messages))
    return f"answer {len(messages)} " + str(len(messages)) * 600


@app.workflow()
async def talk(run: Run, turns: int) -> int:
    messages: list[str] = []
    for turn in range(turns):
        messages.append(f"question {turn} " + chr(97 + turn % 26) * 600)
        messages.append(await run.call(speak, messages))
    return len(messages)


async def test_any_page_of_events_shows_the_whole_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "PAGE", 7)
    sent.clear()
    store = MemoryStore(MemoryDatabase())
    service = app.coordinator(store, CoordinatorSettings(name="one", lease_ttl_ms=1_000))
    await service.start()
    try:
        runs = CoordinatorRuns(service)
        await runs.start(StartRun("talk", b"30", id="r"))
        view = await runs.wait("r", timeout_s=10)
        assert view.head.status == "completed", view.failure
        whole = await runs.events("r", inputs=True)
        parts = [event for after in range(0, len(whole), 4) for event in await runs.events(
            "r", after=after, limit=4, inputs=True
        )]  # fmt: skip
        plain = await runs.events("r")
        rows = await store.log.read("r", after=0, limit=1_000)
    finally:
        await service.stop()
    assert [event.data for event in parts] == [event.data for event in whole]
    shown = [msgspec.json.decode(event.data)["input"] for event in whole if event.type == "CallRequested"]
    assert shown == sent
    assert sum(bool(sources_of(row.body)) for row in rows) > 25
    assert sum(len(bytes(event.data)) for event in plain) < sum(len(bytes(event.data)) for event in whole) / 10
