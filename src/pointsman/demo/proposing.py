"""What the specialists of every domain share: building a proposal, or saying what is missing for one."""

from __future__ import annotations

import re

from pointsman.demo.desks import TRANSFER
from pointsman.demo.models import Case, Proposal, Record

Arguments = dict[str, str | list[str]]
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAY = re.compile(rf"\b({'|'.join(_MONTHS)}) (\d{{1,2}})\b", re.IGNORECASE)


def propose(agent: str, action: str, arguments: Arguments, confidence: float, summary: str) -> Proposal:
    return Proposal(agent=agent, action=action, arguments=arguments, confidence=confidence, summary=summary)


def unable(agent: str, missing: str) -> Proposal:
    """The honest answer of a specialist that found nothing to act on."""
    return propose(agent, TRANSFER, {"missing": missing}, 0.2, f"I could not find {missing}; a person should look.")


def chosen(case: Case, *statuses: str) -> list[Record]:
    """The customer's records in one of these statuses that the ticket means: those it mentions; all when it
    says all; the only one there is; none when that would be a guess."""
    fitting = [record for record in case.customer.records if record.status in statuses]
    mentioned = [record for record in fitting if record.mentioned]
    if mentioned:
        return mentioned
    if re.search(r"\b(?:all|every|everything)\b", case.ticket.text.lower()):
        return fitting
    return fitting if len(fitting) == 1 else []


def certainty(records: list[Record]) -> float:
    """0.9 for one record named by the ticket; less when several fit, or none was named."""
    named = sum(record.mentioned for record in records)
    return 0.9 if named == 1 else 0.75 if named else 0.55


def ids(records: list[Record]) -> list[str]:
    return [record.id for record in records]


def says(case: Case, words: str) -> bool:
    return re.search(rf"\b(?:{words})\b", case.ticket.text.lower()) is not None


def dates(text: str, year: int = 2024) -> list[str]:
    """Days that the text names ("May 20"), as ISO dates."""
    return [f"{year}-{_MONTHS.index(month.lower()) + 1:02}-{int(day):02}" for month, day in _DAY.findall(text)]
