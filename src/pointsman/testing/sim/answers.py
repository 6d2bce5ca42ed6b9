"""What people say counts once: a checker of its own, because it reads mail as well as logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec

from pointsman.coordinator.driving.mail import ANSWER, EXPIRY
from pointsman.kernel import events as ev
from pointsman.testing.sim.evidence import Evidence


class _AboutTask(msgspec.Struct):
    task: str


def one_answer_a_task(evidence: Evidence) -> Iterator[str]:
    """Of what came for a human task, an answer or the end of its time, the first in the mailbox counts, and once."""
    for run in evidence.streams:
        first: dict[str, int] = {}
        for mail in evidence.mails.get(run, ()):
            if mail.kind in (ANSWER, EXPIRY):
                first.setdefault(msgspec.json.decode(mail.body, type=_AboutTask).task, mail.number)
        counted: Counter[str] = Counter()
        for event in evidence.events(run):
            if isinstance(event, ev.HumanTaskAnswered | ev.HumanTaskExpired):
                counted[event.task] += 1
                if event.mail != first.get(event.task):
                    yield f"{run}: mail {event.mail} ended task {event.task}, and the first was {first.get(event.task)}"
        yield from (f"{run}: task {task} ended {count} times" for task, count in counted.items() if count > 1)
