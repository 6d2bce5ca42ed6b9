"""Agents: one that fails, one that lies."""

from __future__ import annotations

from pointsman.testing.chaos.app import LIAR, Work
from pointsman.testing.chaos.drill import Drill, own
from pointsman.testing.chaos.liar import LIES, TIMEOUT_S, Liar
from pointsman.testing.chaos.schedule import schedule

FAILS_S = 2.0


@schedule(
    "failing-agent",
    fault="an agent raises at every call for 2 s",
    sees="a retry, or another agent's answer; while its breaker is open it is not asked at all",
    promised="each call ends once, with a result of one of its agents; no other agent notices",
    not_promised="the effects of an attempt that failed half-way are not undone",
    work=Work(steps=8, step_s=0.1, agent="flaky"),
    long=3,
)
async def failing_agent(drill: Drill) -> None:
    switch = own(drill).switches / "fail"
    for _ in range(drill.rounds):
        await drill.flow()
        async with drill.fault():
            switch.touch()
            await drill.flow(FAILS_S)
            switch.unlink()
    await drill.flow()
    rows = await drill.site.query(
        "SELECT count(*) AS n FROM events WHERE run LIKE $1 AND type = 'AttemptFailed'", f"{drill.prefix}-%"
    )
    drill.facts["attempts_failed"] = rows[0]["n"]
    drill.require("it failed, and was asked again", rows[0]["n"] > 0, rows[0]["n"])


@schedule(
    "lying-agent",
    fault="an agent behind HTTP answers what its card forbids, HTML, half a JSON, half a body, or 200 and then nothing",
    sees="the answer of the next agent of its chain, after its retries",
    promised="nothing that does not fit the card reaches a workflow; each lie is recorded under its kind",
    not_promised="a well-formed answer that is wrong: a schema can't tell",
    work=Work(steps=3, step_s=0.05, agent=LIAR),
    clients=12,
    long=3,
)
async def lying_agent(drill: Drill) -> None:
    for _ in range(drill.rounds):
        await drill.flow()
        async with drill.fault():
            liar = Liar(drill.site.url)
            async with liar:
                await liar.until_told(2 * len(LIES))
                await drill.flow(2 * TIMEOUT_S)  # those that hang are noticed
        drill.facts["lies"] = drill.facts.get("lies", 0) + liar.told
    rows = await drill.site.query(
        "SELECT body->'failure'->>'kind' AS kind, count(*) AS n FROM events"
        " WHERE run LIKE $1 AND type = 'AttemptFailed' GROUP BY 1 ORDER BY 1",
        f"{drill.prefix}-%",
    )
    kinds = {row["kind"]: row["n"] for row in rows}
    drill.facts["failures"] = kinds
    wanted = {"invalid_output", "malformed_output", "connection_lost", "timeout"}
    drill.require("each lie was seen through", wanted <= kinds.keys(), kinds)
