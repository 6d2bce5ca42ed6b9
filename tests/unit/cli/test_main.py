"""The command loads what a verb needs, and no more: else whoever lists runs waits for the simulator."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pointsman
from pointsman.cli.main import VERBS, build

LOADED = """
import sys
sys.argv = ["pointsman", *sys.argv[1:]]
from pointsman.cli.main import main
try:
    main()
except SystemExit:
    pass
print(*sys.modules, file=sys.stderr)
"""
HEAVY = ("pointsman.coordinator", "pointsman.stores", "pointsman.testing", "pointsman.router", "pointsman.app")


@pytest.mark.parametrize("line", ["--version", "runs ls --limit 0", "inbox --help", "breakers --help", "mode"])
def test_verbs_over_the_api_load_no_coordinator(line: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOADED, *line.split()], capture_output=True, text=True, check=True)
    loaded = done.stderr.splitlines()[-1].split()
    assert "pointsman.cli.main" in loaded
    assert [name for name in loaded if name.startswith(HEAVY)] == []


def test_help_and_what_is_no_verb_know_all_of_them() -> None:
    for words, code in (([], 2), (["--help"], 0), (["rnus"], 2)):
        script = [sys.executable, "-m", "pointsman.cli.main", *words]
        done = subprocess.run(script, capture_output=True, text=True, check=False)
        assert done.returncode == code
        said = done.stdout + done.stderr
        if words != ["rnus"]:
            assert [verb for verb in VERBS if f"\n  {verb} " not in said] == []
        else:
            assert "runs" in said, "what may have been meant"


def test_every_verb_is_where_its_line_says() -> None:
    for verb in VERBS:
        built = build([verb])
        assert len(built.registered_commands) + len(built.registered_groups) == 1


def test_every_name_of_the_package_is_there() -> None:
    assert pointsman._MODULES.keys() == set(pointsman.__all__)
    for module in (pointsman, pointsman.client, pointsman.api):
        for name in module.__all__:
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError, match="nothing"):
            module.nothing  # noqa: B018
