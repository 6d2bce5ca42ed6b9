"""A trace for people: what happened to runs, without the polls and heartbeats between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

NOISE = frozenset(
    (
        "claim_due", "claim_orphans", "claim_suspects", "feed", "find", "forget", "heads", "list_runs", "mail",
        "members", "owned", "publish", "read", "read_many", "renew", "reserved", "stranded", "system_append",
        "system_changes", "system_head", "system_heads", "task", "tasks", "unread",
    )
)  # fmt: skip
NOISY_FAULTS = frozenset(("lost", "lost_reply", "late", "hint_lost", "hint_twice", "hint_late"))


def story(trace: Iterable[str]) -> Iterator[str]:
    """The lines of a trace that say what happened: attempts, effects, appends, faults, answers to clients."""
    for line in trace:
        words = line.split(maxsplit=4)
        about = words[2:] if len(words) > 2 else [""]
        if about[0] == "FAULT" and len(about) > 2 and about[1] in NOISY_FAULTS:
            if about[2].split(maxsplit=1)[0] in NOISE:
                continue
        elif about[0] in NOISE and not (about[0].startswith("claim") and "@" in line):
            continue
        yield line
