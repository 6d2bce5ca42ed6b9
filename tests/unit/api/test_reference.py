"""The reference page names every route, error code and setting that there is, and no other."""

import re
from pathlib import Path

from pointsman.api import ApiSettings, errors
from pointsman.router import problems
from tests.unit.api.memory_runs import Bench

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "http-api.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_route_is_on_the_page():
    documented = set(re.findall(r"^\| `(GET|POST|PUT|DELETE) (\S+)`", PAGE, re.MULTILINE))
    assert documented == {(min(route.methods - {"HEAD"}), route.path) for route in Bench().api.routes}


def test_every_error_code_is_on_the_page_with_its_status():
    documented = set()
    for status, codes in re.findall(r"^\| (\d{3}) \| (.*?) \|", section("Errors"), re.MULTILINE):
        documented |= {(int(status), code) for code in re.findall(r"`(\w+)`", codes)}
    own = [value for value in vars(errors).values() if isinstance(value, type)]
    raised = [error for error in own if not issubclass(error, errors.InvalidSetting)]
    assert {(error.status, error.code) for error in raised} <= documented


def test_every_error_of_the_router_is_on_the_page_with_its_status():
    documented = {
        (int(status), code)
        for status, codes in re.findall(r"^\| (\d{3}) \| (.*?) \|", section("Errors of the router"), re.MULTILINE)
        for code in re.findall(r"`(\w+)`", codes)
    }
    own = [value for value in vars(problems).values() if isinstance(value, problems.Problem)]
    assert {(problem.status, problem.code) for problem in own} == documented


def test_every_setting_is_on_the_page():
    rows = "".join(re.findall(r"^\| (`.*?) \|", section("Limits"), re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", rows)) == set(ApiSettings.__struct_fields__) - {"token"}
