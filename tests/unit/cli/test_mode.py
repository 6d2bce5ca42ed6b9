"""`pointsman mode`, against a real API."""

from __future__ import annotations

from tests.unit.cli.conftest import Served


def test_the_mode_is_shown_pinned_and_released(served: Served) -> None:
    assert served.cli("mode", "show").stdout.startswith("the mode is full, by what is measured\n")
    try:
        pinned = served.cli("mode", "set", "degraded", "--by", "ann", "--reason", "a sale")
        assert pinned.stdout == "the mode is degraded, pinned by ann: a sale (ann)\n"
        assert served.json("mode", "show")["mode"] == "degraded"
    finally:
        released = served.cli("mode", "set", "auto", "--by", "bob")
    assert released.stdout == "the mode is full, by what is measured: unpinned (bob)\n"
    lines = served.cli("mode", "show").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:7]] == ["wait", "lag", "store", "errors", "memory"]
    assert [line.split("  ")[1] for line in lines[7:]] == ["pinned degraded by ann: a sale", "unpinned by bob"]
    assert served.json("mode", "set", "full", "--by", "ann")["pinned"] == "full"
    assert served.json("mode", "set", "auto", "--by", "ann")["pinned"] is None


def test_a_mode_that_there_is_not_is_refused(served: Served) -> None:
    refused = served.cli("mode", "set", "panic")
    assert refused.exit_code == 2
    assert "one of full, degraded, emergency, auto" in refused.stderr
