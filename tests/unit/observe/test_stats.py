"""The metrics' text: every metric is there with its type, and labels that others choose do no harm."""

from __future__ import annotations

import re

from pointsman.observe.stats import LABELS_MAX, METRICS, Stats, prometheus


def test_every_metric_is_printed_with_its_type() -> None:
    text = prometheus(Stats(), {"pointsman_ready": 1.0})
    for metric in METRICS:
        assert f"# TYPE {metric.name} {metric.kind}\n" in text
    assert "\npointsman_ready 1\n" in text


def test_every_line_is_a_comment_or_a_sample() -> None:
    stats = Stats()
    stats.count_call('rate "limited"\n\\', 0.1)
    for _ in range(2):
        stats.count_call(None, 0.1)
    stats.count_run("completed")
    stats.observe_request("/v1/runs", "POST", 201, 0.02)
    sample = re.compile(r'^[a-z_]+(\{[a-z]+="([^"\\\n]|\\["\\n])*"\})? [-+.e\d]+$')
    lines = prometheus(stats, {}).splitlines()
    assert all(line.startswith("# ") or sample.match(line) for line in lines)
    assert r'pointsman_calls_ended_total{outcome="rate \"limited\"\n\\"} 1' in lines
    assert 'pointsman_calls_ended_total{outcome="completed"} 2' in lines
    assert "pointsman_call_duration_seconds_count 3" in lines
    assert 'pointsman_http_requests_total{answer="POST 201"} 1' in lines
    assert 'pointsman_http_request_duration_seconds_bucket{le="0.01"} 0' in lines
    assert 'pointsman_http_request_duration_seconds_bucket{le="0.025"} 1' in lines


def test_labels_are_limited() -> None:
    stats = Stats()
    for number in range(LABELS_MAX + 50):
        stats.count_call(f"kind-{number}", 0.1)
    assert len(stats.calls_ended) == LABELS_MAX + 1
    assert stats.calls_ended["other"] == 50
