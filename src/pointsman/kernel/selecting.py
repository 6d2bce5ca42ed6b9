"""Selection: who gets the next call. Whoever was named, if that agent exists and is well; else a rule; else nobody."""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.kernel.program import Directory


def choose(directory: Directory, needs: Sequence[str], named: str | None, why: str, now: int) -> tuple[str, str]:
    """The agent (empty: nobody) and the reason.

    Args:
        needs: capabilities for the rule.
        named: whom the primary selector chose; None: it was not asked, or chose nobody.
        why: who chose, or why nobody did.
    """
    if named is not None:
        trouble = directory.problem(named, now)
        if trouble is None:
            return named, why
        why = f"{why} named {named!r}: {trouble.message or trouble.kind}"
    selection = directory.select(needs)
    before = f"{why}; " if why else ""
    if selection is None:
        return "", f"{before}no agent, no generalist"
    return selection.agent, before + selection.reason
