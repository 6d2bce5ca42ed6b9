"""Evaluation loop: one agent writes a draft, another judges it, and the first tries again until the draft is good
enough.

The best draft so far is kept, so a round that fails or makes it worse costs only its price. Unless the cluster's mode
is full, the judge is not called, which ends the loop as a failure of the judge does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointsman.kernel.errors import CallError, InvalidValue
from pointsman.kernel.run import Run


@dataclass(frozen=True)
class Verdict:
    """What a judge gives: its own model may have more fields, and may leave out the last two.

    Attributes:
        score: the more the better.
        accepted: good enough: there is no further round.
        feedback: what the next draft is to do better.
    """

    score: float
    accepted: bool = False
    feedback: str = ""


@dataclass(frozen=True)
class Refined:
    """The outcome of a refinement.

    Attributes:
        best: the draft with the highest score, the earliest of equals.
        verdict: on `best`; None: the judge failed, and this is the only draft.
        rounds: how many drafts were made.
        why: why there was no further round.
    """

    best: Any
    verdict: Verdict | None
    rounds: int
    why: str

    @property
    def accepted(self) -> bool:
        return self.verdict is not None and self.verdict.accepted


async def refine(run: Run, maker: Any, judge: Any, request: Any, *, rounds_max: int = 3) -> Refined:
    """Let `maker` write drafts and `judge` judge them, for at most `rounds_max` rounds.

    Args:
        maker: an agent of (request, previous draft or None, feedback).
        judge: an agent of (request, draft) that returns a `Verdict`, or something with its fields.

    Raises:
        CallError: the first draft could not be made. InvalidValue: rounds_max under 1, or a verdict without a score.
    """
    if rounds_max < 1:
        raise InvalidValue(f"refine(rounds_max={rounds_max}): 1 or more")
    best: Any = None
    verdict: Verdict | None = None
    latest, feedback = None, ""
    for number in range(1, rounds_max + 1):
        try:
            latest = await run.call(maker, request, latest, feedback)
        except CallError as error:
            if number == 1:
                raise
            return Refined(best, verdict, number - 1, f"no further draft: {error}")
        try:
            said = _verdict_of(await run.call(judge, request, latest, optional="evaluation"))
        except CallError as error:
            return Refined(latest if number == 1 else best, verdict, number, f"no verdict: {error}")
        if verdict is None or said.score > verdict.score or (said.accepted and not verdict.accepted):
            best, verdict = latest, said
        if said.accepted:
            return Refined(best, verdict, number, "accepted")
        feedback = said.feedback
    return Refined(best, verdict, rounds_max, f"{rounds_max} rounds are over")


def _verdict_of(said: Any) -> Verdict:
    fields = said if isinstance(said, dict) else {name: getattr(said, name, None) for name in Verdict.__annotations__}
    score = fields.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise InvalidValue(f"the judge's verdict has score {score!r}: a number is needed")
    return Verdict(float(score), bool(fields.get("accepted")), str(fields.get("feedback") or ""))
