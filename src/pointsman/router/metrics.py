"""What the router counts, and the Prometheus text of it. All names are here.

Must not know who counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict

PREFIX = "pointsman_router_"
MEDIA_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Plain numbers; whoever sees it happen raises them."""

    __slots__ = ("problems", "requests", "retries", "upstream_count", "upstream_seconds")

    def __init__(self) -> None:
        self.requests: Counter[int] = Counter()  # by first digit of the status
        self.problems: Counter[str] = Counter()  # by code
        self.retries: Counter[str] = Counter()  # by reason: refused, broken, stale, draining, shed, silent, resumed
        self.upstream_seconds: defaultdict[str, float] = defaultdict(float)
        self.upstream_count: Counter[str] = Counter()

    def answered(self, coordinator: str, seconds: float, status: int) -> None:
        self.upstream_seconds[coordinator] += seconds
        self.upstream_count[coordinator] += 1
        self.requests[status // 100] += 1

    def forget(self, known: set[str]) -> None:
        """Series of coordinators that are no longer listed go, or restarts under new names add up."""
        for gone in [name for name in self.upstream_count if name not in known]:
            del self.upstream_count[gone]
            del self.upstream_seconds[gone]

    def text(self, *, clients: int, upstreams: int, coordinators: list[tuple[str, str, float]]) -> bytes:
        """Args:
        clients, upstreams: open connections.
        coordinators: name, state and load of each.
        """
        lines: list[str] = []
        self._add(lines, "requests_total", "counter", "Responses sent.",
                  [(f'status="{k}xx"', v) for k, v in sorted(self.requests.items())])  # fmt: skip
        self._add(lines, "problems_total", "counter", "Errors made by the router itself.",
                  [(f'code="{k}"', v) for k, v in sorted(self.problems.items())])  # fmt: skip
        self._add(lines, "retries_total", "counter", "Requests sent to a coordinator once more.",
                  [(f'reason="{k}"', v) for k, v in sorted(self.retries.items())])  # fmt: skip
        self._summary(lines)
        self._add(lines, "connections", "gauge", "Open connections.",
                  [('side="client"', clients), ('side="upstream"', upstreams)])  # fmt: skip
        states = Counter(state for _, state, _ in coordinators)
        self._add(lines, "coordinators", "gauge", "Coordinators known, by state.",
                  [(f'state="{k}"', v) for k, v in sorted(states.items())])  # fmt: skip
        self._add(lines, "coordinator_load", "gauge", "Load as announced.",
                  [(f'coordinator="{name}"', load) for name, _, load in coordinators])  # fmt: skip
        return ("\n".join(lines) + "\n").encode()

    def _summary(self, lines: list[str]) -> None:
        name = PREFIX + "upstream_seconds"
        help_ = "From a request sent to the response's headers, or to its end if it is a short one."
        lines += [f"# HELP {name} {help_}", f"# TYPE {name} summary"]
        for coordinator, count in sorted(self.upstream_count.items()):
            label = f'{{coordinator="{coordinator}"}}'
            lines.append(f"{name}_sum{label} {self.upstream_seconds[coordinator]:.6f}")
            lines.append(f"{name}_count{label} {count}")

    @staticmethod
    def _add(lines: list[str], name: str, kind: str, help_: str, rows: list[tuple[str, float]]) -> None:
        lines += [f"# HELP {PREFIX}{name} {help_}", f"# TYPE {PREFIX}{name} {kind}"]
        lines += [f"{PREFIX}{name}{{{labels}}} {value}" for labels, value in rows]
