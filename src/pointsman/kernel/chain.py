"""The failure chain of a call, after its retries: the next agent that could take it, then a person.

It only ever goes forward: an agent that had the call never gets it back.
"""

from __future__ import annotations

from pointsman.kernel import events as ev
from pointsman.kernel.asking import chain_digest, task_id
from pointsman.kernel.program import Directory
from pointsman.kernel.state import PendingCall


def next_agent(
    pending: PendingCall, failure: ev.Failure, directory: Directory, *, attempt: int, now: int
) -> ev.CallReassigned | None:
    """The event that gives the call, with its attempt of that number, to the next agent of its chain, if one can take
    it."""
    names = pending.options.fallback
    if names is None:
        names = directory.chain(pending.asked)
    passed_over: list[str] = []
    for name in names:
        if name == pending.target or name in pending.tried:
            continue
        problem = directory.problem(name, now)
        if problem is None and not directory.fits(name, pending.data):
            problem = ev.Failure("invalid_input", "its schema does not fit the input")
        if problem is None:
            return ev.CallReassigned(
                call=pending.call, attempt=attempt, agent=name, failure=failure,
                passed_over=tuple(passed_over),
            )  # fmt: skip
        passed_over.append(f"{name}: {problem.message or problem.kind}")
    return None


def ask_person(pending: PendingCall, failure: ev.Failure) -> ev.HumanTaskOpened | None:
    """The event that asks a person, if the workflow wants one asked."""
    person = pending.options.person
    if person is None:
        return None
    seen = chain_digest(person.question, pending.data, pending.asked, failure.kind, failure.message)
    return ev.HumanTaskOpened(
        call=pending.call, task=task_id(pending.key, seen, pending.redrive), question=person.question,
        failure=failure, digest=seen, terms=person.terms,
    )  # fmt: skip
