"""What must be true after every schedule. Each checker reads the evidence alone, and can fail (tested)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

from pointsman.kernel import events as ev
from pointsman.kernel.checksum import first_damage
from pointsman.kernel.errors import CorruptLog, NonDeterministicWorkflow, PoisonedRun
from pointsman.kernel.redriving import Fact, in_force, misplaced
from pointsman.ports.event_log import ENDED_STATUSES
from pointsman.testing.sim.answers import one_answer_a_task
from pointsman.testing.sim.evidence import Evidence
from pointsman.testing.sim.fetching import (
    nothing_is_left_lying,
    one_worker_an_attempt,
    results_are_of_their_attempt,
)
from pointsman.testing.sim.journal import Invocation
from pointsman.testing.sim.ledgers import budget_violations
from pointsman.testing.sim.notices import everyone_is_told
from pointsman.testing.sim.promises import acked_is_durable
from pointsman.testing.sim.replayed import SAMPLES, replays_identically

Checker = Callable[[Evidence], Iterator[str]]
OUTCOMES = (
    ev.CallCompleted, ev.CallFailed, ev.CallSkipped, ev.HumanTaskAnswered, ev.HumanTaskExpired,
    ev.CallCancelled, ev.ChildEnded,
)  # fmt: skip
REQUESTS = (ev.CallRequested, ev.ChildStarted, ev.TimerSet, ev.SignalAwaited, ev.HumanTaskRequested)
STATUS_OF = {ev.RunCompleted: "completed", ev.RunFailed: "failed", ev.RunWasCancelled: "cancelled"}


def generations_are_counted(evidence: Evidence) -> Iterator[str]:
    """The head says where the last one begins, and which it is."""
    for run, stream in evidence.streams.items():
        begins = [row.sequence for row in stream if row.type in ("RunStarted", "RunRestarted")]
        head = evidence.heads[run]
        if begins and (head.base, head.generation) != (begins[-1], len(begins)):
            yield f"{run}: generations begin at {begins}; its head says {head.generation}, from {head.base}"


def sequences_are_dense(evidence: Evidence) -> Iterator[str]:
    """1, 2, 3 … in each stream, each once, and the head and the feed say the same."""
    fed = Counter((run, sequence) for run, sequence, _ in evidence.feed)
    for run, stream in evidence.streams.items():
        numbers = [row.sequence for row in stream]
        if numbers != list(range(1, len(numbers) + 1)) or evidence.heads[run].sequence != len(numbers):
            yield f"{run}: its sequences are {numbers}, its head says {evidence.heads[run].sequence}"
        wrong = [number for number in numbers if fed[run, number] != 1]
        if wrong:
            yield f"{run}: events {wrong} are not exactly once in the feed"


def checksums_fit(evidence: Evidence) -> Iterator[str]:
    """Each event's is chained over its run, whoever appended it."""
    for run, stream in evidence.streams.items():
        damage = first_damage(run, list(stream), evidence.heads[run].sequence)
        if damage is not None:
            yield f"{run}: {damage.message}"


def only_what_harms_is_held_back(evidence: Evidence) -> Iterator[str]:
    """A run is quarantined because its log was altered, or because it did not get on under several owners; it is
    stopped only by code of another release."""
    for run, stream in evidence.streams.items():
        epoch = 0
        for row, event in zip(stream, evidence.events(run), strict=True):
            if isinstance(event, ev.LogRepaired) and run not in evidence.damaged:
                yield f"{run}: was repaired, and nobody had altered it: {event.reason}"
            if isinstance(event, ev.RunStopped):
                is_poison = event.kind == PoisonedRun.code and row.epoch - epoch >= evidence.takeovers_max
                is_corrupt = event.kind == CorruptLog.code and run in evidence.damaged
                is_of_other_code = event.kind == NonDeterministicWorkflow.code and bool(evidence.releases_before)
                if not (is_poison or is_corrupt or is_of_other_code):
                    yield f"{run}: was held back after {row.epoch - epoch} owners: {event.message}"
            elif not isinstance(event, ev.CallReserved):
                epoch = row.epoch


def one_end_and_it_is_last(evidence: Evidence) -> Iterator[str]:
    """But for a failure that was redriven: that, and nothing else, follows it."""
    for run in evidence.streams:
        events = evidence.events(run)
        ends = [place for place, event in enumerate(events, 1) if isinstance(event, ev.TERMINAL)]
        for place, event in enumerate(events):
            if isinstance(event, ev.RunRedriven) and place in ends and isinstance(events[place - 1], ev.RunFailed):
                ends.remove(place)
            elif isinstance(event, ev.RunRedriven):
                yield f"{run}: event {place + 1} redrives what had not failed"
        status = evidence.heads[run].status
        if ends and (ends != [len(events)] or STATUS_OF.get(type(events[-1])) != status):
            yield f"{run}: ends at {ends} of {len(events)}, status {status}"
        if not ends and status in ENDED_STATUSES:
            yield f"{run}: is {status}, and no event says so"


def epochs_never_fall(evidence: Evidence) -> Iterator[str]:
    for run, stream in evidence.streams.items():
        epochs = [row.epoch for row in stream]
        if epochs != sorted(epochs) or (epochs and epochs[-1] > evidence.heads[run].epoch):
            yield f"{run}: epochs {epochs}, the head's is {evidence.heads[run].epoch}"


def times_never_fall(evidence: Evidence) -> Iterator[str]:
    """Within a run; and no event is from the future of its commit. A repair is of its own time: what the body did
    before it, and was lost, is done again at the old one."""
    for run, stream in evidence.streams.items():
        times = [row.at for row in stream if row.type != ev.LogRepaired.__name__]
        if times != sorted(times):
            yield f"{run}: the times of its events go back: {times}"
        for row in stream:
            place = evidence.place(run, row.sequence)
            if place >= 0 and row.at > evidence.feed[place][2] + evidence.early_ms:
                committed_at = evidence.feed[place][2]
                yield f"{run}: event {row.sequence} is of {row.at}, and was committed at {committed_at}"


def mail_is_folded_once(evidence: Evidence) -> Iterator[str]:
    """Each accepted mail of a run that has ended is exactly one event, in the order in which it came."""
    for run, mails in evidence.mails.items():
        folded = [event.mail for event in evidence.events(run) if hasattr(event, "mail")]
        numbers = [mail.number for mail in mails]
        whole = evidence.heads[run].status in ENDED_STATUSES
        if folded != numbers[: len(folded)] or (whole and len(folded) != len(numbers)):
            yield f"{run}: its mail is {numbers}, and its stream has {folded}"
        keys = {mail.number: mail.key for mail in mails}
        signals = Counter(event.key for event in evidence.events(run) if isinstance(event, ev.SignalReceived))
        yield from (f"{run}: the signal {key!r} is {count} events" for key, count in signals.items() if count > 1)
        for event in evidence.events(run):
            if isinstance(event, ev.SignalReceived) and keys.get(event.mail) != event.key:
                yield f"{run}: mail {event.mail} has the key {keys.get(event.mail)}, its event {event.key}"


def timers_fire_once_and_never_early(evidence: Evidence) -> Iterator[str]:
    """By the store's clock at the commit; retries wait for their time too. A coordinator knows that clock only as well
    as its last measurement was."""
    for run in evidence.streams:
        due: dict[str, int] = {}
        for sequence, event in enumerate(evidence.events(run), 1):
            if isinstance(event, ev.TimerSet):
                due[event.call] = event.due
            elif isinstance(event, ev.AttemptFailed) and event.retry_at is not None:
                due[event.call] = event.retry_at
            elif isinstance(event, ev.TimerFired | ev.CallRetried):
                when, at = due.pop(event.call, None), evidence.feed[evidence.place(run, sequence)][2]
                if when is None or at < when - evidence.early_ms:
                    yield f"{run}: {event.call} ({type(event).__name__}) was due at {when} and came at {at}"


def one_outcome_a_call(evidence: Evidence) -> Iterator[str]:
    """And none without a request. What comes by mail is recorded in any case, and told to nobody: the answer to a
    task that is not open any more, the second end of a child that was redriven alone."""
    for run, stream in evidence.streams.items():
        asked: set[str] = set()
        over: set[str] = set()
        facts = [Fact(row.sequence, row.at, event) for row, event in zip(stream, evidence.events(run), strict=True)]
        facts = in_force(facts)
        stray = misplaced(facts)
        for event in (fact.event for fact in facts if fact.sequence not in stray):
            if isinstance(event, REQUESTS):
                if event.call in asked:
                    yield f"{run}: {event.call} was requested twice"
                asked.add(event.call)
            elif isinstance(event, ev.ChildEnded) and event.call in over and _was_redriven(evidence, event.run):
                continue
            elif isinstance(event, OUTCOMES):
                if event.call not in asked or event.call in over:
                    yield f"{run}: {event.call} has an outcome without a request, or a second one"
                over.add(event.call)


def _was_redriven(evidence: Evidence, run: str) -> bool:
    return any(isinstance(event, ev.RunRedriven) for event in evidence.events(run))


def requests_come_first(evidence: Evidence) -> Iterator[str]:
    """An agent is called only for an attempt that was durable before, under its call's own key."""
    attempts: dict[tuple[str, str, int], int] = {}
    keys: set[tuple[str, str, str]] = set()
    for run in evidence.streams:
        generation, again = 1, ""
        latest: dict[str, str] = {}
        for sequence, event in enumerate(evidence.events(run), 1):
            if isinstance(event, ev.RunRestarted):
                generation = event.generation
            elif isinstance(event, ev.RunRedriven):
                again = f"r{event.number}"
                for call in event.calls:
                    last = max((n for r, c, n in attempts if (r, c) == (run, call)), default=0)
                    attempts[run, call, last + 1] = evidence.place(run, sequence)
                    if event.has_fresh_key and call in latest:
                        latest[call] += f"/r{event.number}"
                        keys.add((run, call, latest[call]))
            elif isinstance(event, ev.CallRequested):
                attempts.setdefault((run, event.call, 1), evidence.place(run, sequence))
                latest[event.call] = f"{run}/{generation}{again}/{event.call}"
                keys.add((run, event.call, latest[event.call]))
            elif isinstance(event, ev.CallRetried | ev.CallReassigned):
                attempts.setdefault((run, event.call, event.attempt), evidence.place(run, sequence))
    for made in evidence.invocations:
        place = attempts.get((made.run, made.call, made.attempt))
        if place is None or place >= made.position:
            yield f"{made.run}: {made.call} attempt {made.attempt} began on {made.node} before it was durable"
        if (made.run, made.call, made.key) not in keys:
            yield f"{made.run}: {made.call} began with the key {made.key!r}"


def nothing_is_called_in_vain(evidence: Evidence) -> Iterator[str]:
    """No committed call is made again, no owner starts an attempt twice, nobody acts for a run it has lost.

    What no fence can prevent: a request already decided leaves a process that was stopped meanwhile.
    """
    over: dict[tuple[str, str], int] = {}
    for run in evidence.streams:
        for sequence, event in enumerate(evidence.events(run), 1):
            if isinstance(event, OUTCOMES):
                over.setdefault((run, event.call), evidence.place(run, sequence))
            elif isinstance(event, ev.RunRedriven):  # the calls that failed are made again
                for call in event.calls:
                    over.pop((run, call), None)
    decided = [*(made for made in evidence.invocations if not made.at_worker), *evidence.laid_out]
    started = Counter((made.run, made.call, made.attempt, made.epoch) for made in decided)
    for (run, call, attempt, epoch), count in started.items():
        if count > 1:
            yield f"{run}: {call} attempt {attempt} was started {count} times in epoch {epoch}"
    for made in decided:
        if made.was_held:
            continue
        if over.get((made.run, made.call), made.position) < made.position:
            yield f"{made.run}: {made.call} was called on {made.node} at {made.at_s:.3f} s, after its outcome"
        if made.epoch != made.epoch_now:
            when = f"in epoch {made.epoch}, and the epoch was {made.epoch_now}"
            yield f"{made.run}: {made.call} was called by {made.node} {when}"


def children_belong(evidence: Evidence) -> Iterator[str]:
    """A child exists exactly if its parent's stream says that it was started."""
    started = {
        event.run: run for run in evidence.streams for event in evidence.events(run)
        if isinstance(event, ev.ChildStarted)
    }  # fmt: skip
    for child, run in started.items():
        if child not in evidence.heads or evidence.heads[child].parent != run:
            yield f"{run}: its child {child} does not exist"
    for run, head in evidence.heads.items():
        if head.parent is not None and started.get(run) != head.parent:
            yield f"{run}: its parent {head.parent} never started it"


def everything_ends(evidence: Evidence) -> Iterator[str]:
    """Liveness after healing: each run has ended, each client has its answer, no error was logged."""
    for run, head in evidence.heads.items():
        if head.status not in ENDED_STATUSES:
            kinds = [row.type for row in evidence.streams[run]][-3:]
            owner = f"owner {head.owner}, epoch {head.epoch}"
            yield f"{run}: is {head.status} for ever ({owner}, ends with {kinds})"
    for name in evidence.unfinished:
        yield f"no answer to {name.strip()}"
    yield from evidence.errors
    if not evidence.is_over and not evidence.errors:
        yield "the schedule did not come to its end"


def effects_happen_once(evidence: Evidence) -> Iterator[str]:
    """Each effect of a call once, whoever tried how often: what comes twice under one key happens once."""
    happened: dict[tuple[str, str, str], dict[str, Invocation]] = {}
    for number, one in enumerate(evidence.effects):
        keys = happened.setdefault((one.by.run, one.by.call, one.name), {})
        keys.setdefault(one.key if one.key is not None else f"without a key, {number}", one.by)
    for (run, call, name), keys in happened.items():
        if len(keys) > 1:
            tries = ", ".join(f"attempt {by.attempt} by {by.node} in epoch {by.epoch}" for by in keys.values())
            yield f"{run}: {name!r} happened {len(keys)} times for one call, {call} ({tries}): use its idempotency key"


def damage_is_found(evidence: Evidence) -> Iterator[str]:
    """What was altered where nobody had it in memory is not driven on: a repair is in its place."""
    for run, sequence in evidence.damaged.items():
        stream = evidence.streams.get(run, ())
        if len(stream) > sequence and stream[sequence - 1].type != ev.LogRepaired.__name__:
            yield f"{run}: event {sequence} was altered, and it went on over that"


def only_the_past_is_deleted(evidence: Evidence) -> Iterator[str]:
    """All of it, and nothing else: no run that had not ended by then, and none whose parent had not, or is kept."""
    erased = {one.head.id for one in evidence.erased}
    for one in evidence.erased:
        if one.head.ended_at is None or one.head.ended_at > evidence.aged_at:
            yield f"{one.head.id}: was deleted, and ended at {one.head.ended_at}, not before {evidence.aged_at}"
        if one.parent is not None and (one.parent.ended_at is None or one.parent.ended_at > evidence.aged_at):
            yield f"{one.head.id}: was deleted before its parent {one.parent.id} had ended"
    for run, head in evidence.heads.items():
        if head.parent in erased and run not in erased:
            yield f"{run}: is left, and its parent {head.parent} was deleted"


def budgets_hold(evidence: Evidence) -> Iterator[str]:
    """No shared budget is above its limit, and each attempt counts once."""
    return budget_violations(
        evidence.streams, evidence.budgets, is_over=evidence.is_over and evidence.waited_for_budgets
    )


CHECKERS: tuple[Checker, ...] = (
    acked_is_durable, sequences_are_dense, checksums_fit, one_end_and_it_is_last, epochs_never_fall, times_never_fall,
    generations_are_counted,
    mail_is_folded_once, one_answer_a_task, timers_fire_once_and_never_early, one_outcome_a_call, requests_come_first,
    nothing_is_called_in_vain, children_belong, everything_ends, effects_happen_once, budgets_hold,
    only_what_harms_is_held_back, only_the_past_is_deleted, damage_is_found,
    results_are_of_their_attempt, one_worker_an_attempt, nothing_is_left_lying, everyone_is_told,
)  # fmt: skip


def check(evidence: Evidence, rng: random.Random, *, prefixes: int = SAMPLES) -> list[str]:
    """Every violation, each with the name of its checker."""
    found = [f"{checker.__name__}: {what}" for checker in CHECKERS for what in checker(evidence)]
    return found + [f"{replays_identically.__name__}: {what}" for what in replays_identically(evidence, rng, prefixes)]
