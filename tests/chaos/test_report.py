"""The page of the documentation: figures of now, those of before where nothing was run now."""

from __future__ import annotations

import msgspec

from pointsman.testing.chaos.drill import Check, Report
from pointsman.testing.chaos.judge import Verdict
from pointsman.testing.chaos.report import NOT_RUN, as_data, page
from pointsman.testing.chaos.schedules import SCHEDULES

VERDICT = Verdict(
    starts=1, signals=1, results=1, lost=[], committed_repeated=[], ended_unrecorded_repeated=2, interrupted_repeated=3,
    stale_starts=0, unsound=[], faults=4, under_way=6, recovered=5, still_p50_ms=250.0, still_max_ms=1500.0, calls=8,
    incarnations_ended=7,
)  # fmt: skip
GOOD = Report("kill-one", 4, 9.0, VERDICT, {"503": 11}, {}, [Check("all is well", True, "0")])
BAD = msgspec.structs.replace(GOOD, schedule="kill-all", checks=[Check("all is well", False, "1")])
ALL = list(SCHEDULES.values())


def row(text: str, name: str) -> list[str]:
    (_, line) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_a_row_has_what_was_counted() -> None:
    figures = ["4", "3", "0", "0", "2", "3", "5 of 6", "0.25 s / 1.50 s", "11", "7"]
    assert row(page(ALL, [GOOD]), "kill-one") == [*figures, "yes"]
    assert row(page(ALL, [BAD]), "kill-all") == [*figures, "**no**"]


def test_what_was_not_run_keeps_its_figures() -> None:
    before = page(ALL, [GOOD])
    after = page(ALL, [BAD], before)
    assert row(after, "kill-one") == row(before, "kill-one")
    assert row(before, "kill-all")[0] == NOT_RUN
    assert row(after, "kill-all")[-1] == "**no**"


def test_data_say_whether_it_held() -> None:
    assert as_data(GOOD)["holds"]
    assert not as_data(BAD)["holds"]
    assert as_data(GOOD)["verdict"]["under_way"] == 6
