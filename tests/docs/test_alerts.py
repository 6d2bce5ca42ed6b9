"""The rules for Prometheus ask for metrics, labels and values that there are; each alarm has its row on the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pointsman.observe.stats import METRICS, Stats, prometheus
from pointsman.router import problems
from pointsman.router.metrics import Metrics as RouterMetrics

DOCS = Path(__file__).parents[2] / "docs"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
ALARMS = (DOCS / "operations.md").read_text().split("\n## Alarms\n")[1].split("\n## ")[0]
SELECTOR = re.compile(r"(pointsman_\w+)(?:\{([^}]*)\})?")
EVERYBODYS = {"up", "instance", "job"}


def labels() -> dict[str, set[str]]:
    """Of each metric, as coordinators and routers write them."""
    routers = RouterMetrics()
    routers.answered("a", 1.0, 200)
    routers.problems["x"] = routers.retries["x"] = 1
    text = routers.text(clients=0, upstreams=0, coordinators=[("a", "live", 0.0)]).decode()
    found = {metric.name: {metric.label} - {""} for metric in METRICS}
    for name, said in re.findall(r"^(pointsman_\w+)\{(.*)\}", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r"(\w+)=", said))
    return found


def test_every_rule_is_one() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names) >= 30
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "annotations"}, rule
        assert rule["annotations"].keys() == {"summary"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s")), rule
        assert rule["expr"].count("(") == rule["expr"].count(")"), rule


def test_rules_ask_for_what_is_measured() -> None:
    known = labels()
    for rule in RULES:
        expression = rule["expr"]
        asked = SELECTOR.findall(expression)
        assert asked or "up{" in expression, rule
        has = set[str]().union(*(known[name] for name, _ in asked))
        for name, matchers in asked:
            assert set(re.findall(r"(\w+)(?:=|!=|=~)\"", matchers)) <= known[name], rule
        said = " ".join(re.findall(r"\bby \(([^)]*)\)", expression)) + " ".join(rule["annotations"].values())
        shown = set(re.findall(r"\bby \((\w+)\)", expression)) | set(re.findall(r"\$labels\.(\w+)", said))
        assert shown <= has | EVERYBODYS, rule
        if "instance" in said:
            assert not re.search(r"\b(sum|max|min)\b", expression), f"{rule}: no instance is left"


def test_values_of_labels_are_ones_that_occur() -> None:
    stats = Stats()
    stats.observe_request("", "POST", 503, 0.1)
    stats.observe_request("", "GET", 500, 0.1)
    answers = set(re.findall(r'answer="([^"]*)"', prometheus(stats, {})))
    codes = {value.code for value in vars(problems).values() if isinstance(value, problems.Problem)}
    for rule in RULES:
        for pattern in re.findall(r'answer=~"([^"]*)"', rule["expr"]):
            assert any(re.fullmatch(pattern, answer) for answer in answers), rule
        for pattern in re.findall(r'code=~?"([^"]*)"', rule["expr"]):
            assert set(pattern.split("|")) <= codes, rule


def test_every_metric_of_the_rules_is_an_alarm_of_the_page_and_the_other_way_round() -> None:
    rows = [row.strip("|").split(" | ")[0] for row in ALARMS.splitlines() if row.startswith("| ")]
    page = set(re.findall(r"pointsman_\w+", " ".join(rows)))
    asked = {name for rule in RULES for name, _ in SELECTOR.findall(rule["expr"])}
    assert asked ^ page <= {"pointsman_runs_taken_over_total"}


def test_what_prometheus_is_told_to_ask_is_what_the_rules_are_about() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "howto" / "secure.md").read_text(), re.DOTALL | re.MULTILINE)
    jobs = yaml.safe_load(block)["scrape_configs"]
    assert [job["metrics_path"] for job in jobs] == ["/metrics", "/router/metrics"]
    (pattern,) = [named for rule in RULES for named in re.findall(r'^up\{job=~"([^"]*)"\}', rule["expr"])]
    assert all(re.fullmatch(pattern, job["job_name"]) for job in jobs)
