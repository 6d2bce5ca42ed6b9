"""Questions of bodies under faults: answered, refused and expired, whatever dies; and a guard that is broken."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from typing import Any

from pointsman import App, Run
from pointsman.coordinator.driving import driver
from pointsman.testing.sim.patching import patched
from pointsman.testing.sim.scenario import Given, Start
from pointsman.testing.sim.world import simulate

app = App("asking")
OUTCOMES: Counter[str] = Counter()


@app.workflow()
async def asking(run: Run, n: int) -> list[str]:
    said = []
    for number in range(n):
        answer = await run.ask(
            f"number {number}?", proposed=number, expires_in=0.05 + run.random(), escalate_to="leads",
            escalate_in=0.04,
        )  # fmt: skip
        said.append(answer.outcome)
    OUTCOMES.update(said)
    return said


class Asking(Given):
    """People accept, edit, refuse, or come too late."""

    def answer(self, rng: random.Random, question: str) -> Any:
        del question
        return rng.choice((0, 1, 2, None))


SCENARIO = Asking(app, [Start("asking", b"3", b"4")])


def test_questions_hold_under_faults() -> None:
    OUTCOMES.clear()
    reports = [simulate(seed, SCENARIO) for seed in range(12)]
    assert [violation for report in reports for violation in report.violations] == []
    assert {"accepted", "edited", "refused", "expired"} <= set(OUTCOMES)


def test_time_that_does_not_ask_the_mailbox_is_caught() -> None:
    """Mutant: a task expires under a key of its own, whatever was answered."""
    mails, number = driver.mails, itertools.count()

    class Mails:
        def __getattr__(self, name: str) -> Any:
            return getattr(mails, name)

        def answer_key(self, task: str) -> str:
            return f"{mails.answer_key(task)}:{next(number)}"

    with patched(driver, "mails", Mails()):
        found = (simulate(seed, SCENARIO).violations for seed in range(40))
        assert any("one_answer_a_task" in what for violations in found for what in violations)
