"""Reports as plain data, and as the page of the documentation. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from pointsman.testing.chaos.drill import Report
from pointsman.testing.chaos.schedule import Schedule

HEAD: Final = """# Failure drills

Written by `make chaos`, from one run of every schedule on real processes: PostgreSQL, a router, three coordinators,
each with a network of its own to it, all on one machine. Clients know the HTTP API only and put on the disk what they
were told; agents write down every call of them; afterwards a judge compares both with the log. `pointsman chaos
--schedule NAME` does one of them. What the columns mean is below the tables.
"""
WHAT: Final = """## What happens

| schedule | what fails | what a user sees | guaranteed | not guaranteed |
|---|---|---|---|---|
"""
COUNTED: Final = """
## What was counted

| schedule | faults | acknowledged | lost | committed calls repeated | ended, unrecorded: repeated | interrupted: repeated | recovered | stood still p50 / longest | clients asked again | incarnations ended | held |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""  # noqa: E501  a row of a table is one line
MEANING: Final = """
- **acknowledged**: starts, signals and results that a client was told of. **lost**: of these, what is
  missing from the log once every fault has been healed; and runs that have still not ended well a minute after that.
- **committed calls repeated**: an agent was asked again although its result was in the log: never, or it is a bug.
  **ended, unrecorded: repeated**: it had ended, and the record of that was lost with its coordinator or its connection.
  **interrupted: repeated**: nobody saw its end. Both with the same idempotency key.
- **recovered**: runs that were under way at a fault and ended well, of all that were. **stood still**: the longest time
  without a sign of life of such a run; a step takes 50 to 100 ms by itself.
- **clients asked again**: answers that were no success (503, a broken connection), after which the same request was
  sent again. **incarnations ended**: of coordinators, by a death or by leaving.
- The judge also finds fault with holes in a log, epochs that go back, two outcomes of one call, anything after the end
  of a run, a result that the steps do not add up to, an agent asked for what no log has. A *control* must lose, or the
  judge is blind.
"""
NOT_COUNTED: Final = "–"
"""Of agents that wrote down nothing: they are somebody else's."""
NOT_RUN: Final = "not run yet"


def as_data(report: Report) -> dict[str, Any]:
    """What `--json` prints of one."""
    data: dict[str, Any] = msgspec.to_builtins(report)
    data["holds"] = report.holds
    data["acknowledged"] = report.verdict.acknowledged
    return data


def page(schedules: Sequence[Schedule], reports: Sequence[Report], before: str = "") -> str:
    """The documentation's page. What was not run now keeps its figures of `before`, the page as it was."""
    new = {report.schedule: f"| `{report.schedule}` | {' | '.join(cells(report))} |\n" for report in reports}
    old = _rows(before)
    what = "".join(
        f"| `{one.name}` | {one.fault} | {one.sees} | {one.promised} | {one.not_promised} |\n" for one in schedules
    )
    counted = "".join(
        new.get(one.name) or old.get(one.name) or f"| `{one.name}` | {NOT_RUN} |{' |' * 10}\n" for one in schedules
    )
    return HEAD + "\n" + WHAT + what + COUNTED + counted + MEANING


def _rows(before: str) -> dict[str, str]:
    """The figures of a page, by schedule."""
    lines = before.partition(COUNTED)[2].splitlines(keepends=True)
    return {line.split("`")[1]: line for line in lines if line.startswith("| `")}


def cells(report: Report) -> list[str]:
    """The figures of one, as text, in the order of the page."""
    found = report.verdict
    repeated = [len(found.committed_repeated), found.ended_unrecorded_repeated, found.interrupted_repeated]
    return [
        str(found.faults), f"{found.acknowledged:,}", str(len(found.lost)),
        *(str(count) if found.calls else NOT_COUNTED for count in repeated),
        f"{found.recovered} of {found.under_way}", f"{_seconds(found.still_p50_ms)} / {_seconds(found.still_max_ms)}",
        str(sum(report.refused.values())), str(found.incarnations_ended), "yes" if report.holds else "**no**",
    ]  # fmt: skip


def _seconds(ms: float | None) -> str:
    return "–" if ms is None else f"{ms / 1000:.2f} s"
