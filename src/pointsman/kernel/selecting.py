"""Selection: who gets the next call. Whoever was named, if that agent exists and is well; else a rule; else nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pointsman.kernel.policy.modes import EMERGENCY, FULL
from pointsman.kernel.program import Directory


def choose(
    directory: Directory, needs: Sequence[str], named: str | None, why: str, now: int, default: str = ""
) -> tuple[str, str]:
    """The agent (empty: nobody) and the reason.

    Args:
        needs: capabilities for the rule.
        named: whom the primary selector chose; None: it was not asked, or chose nobody.
        why: who chose, or why nobody did.
        default: who gets it in the mode emergency, and when there is nobody else; empty: nobody.
    """
    if named is not None:
        problem = directory.problem(named, now)
        if problem is None:
            return named, why
        why = f"{why} named {named!r}: {problem.message or problem.kind}"
    before = f"{why}; " if why else ""
    mode = directory.mode
    if mode != FULL:
        for who, what in ((default if mode == EMERGENCY else "", "default"), (directory.generalist(), "generalist")):
            if who and directory.problem(who, now) is None:
                return who, f"{before}the mode is {mode}: the {what}"
    selection = directory.select(needs)
    if selection is not None:
        return selection.agent, before + selection.reason
    if default and directory.problem(default, now) is None:
        return default, f"{before}no agent, no generalist: the default"
    return "", f"{before}no agent, no generalist"


def is_agent(selector: Any) -> bool:
    """Is it an agent, or the name of one, and not a function?"""
    return isinstance(selector, str) or hasattr(selector, "signature")


def selector_key(call: str) -> str:
    """The key of the call in which a selection asks its agent."""
    return f"{call.replace('#', '-')}/by"
