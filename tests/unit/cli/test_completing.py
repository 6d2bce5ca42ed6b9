"""What a shell offers at a TAB."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from tests.unit.cli.conftest import Served


def offered(served: Served, line: str, url: str | None = None) -> set[str]:
    """As bash asks: all words, and the number of the one that is not finished."""
    words = line.split(" ")
    done = served.cli(
        _POINTSMAN_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1),
        **({"POINTSMAN_URL": url} if url else {}),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return set(done.stdout.split())


def test_commands_and_options_are_offered(served: Served) -> None:
    assert {"show", "ls", "tail"} <= offered(served, "pointsman runs ")
    assert offered(served, "pointsman runs sh") == {"show"}
    assert "--inputs" in offered(served, "pointsman runs show --")


def test_runs_workflows_and_agents_are_offered_by_name(served: Served) -> None:
    for number in (1, 2):
        served.invoke("start", "waits", "--id", f"offered-{number}")
    assert offered(served, "pointsman runs show offered-") == {"offered-1", "offered-2"}
    assert offered(served, "pointsman runs ls --workflow wai") == {"waits"}
    assert offered(served, "pointsman runs start wai") == {"waits"}
    assert "greeter" in offered(served, "pointsman agents show ")


def test_where_nobody_answers_nothing_is_offered(served: Served) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        silent = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        assert offered(served, "pointsman runs show x", url=silent) == set()
    for url in (silent, "http://", "nonsense"):
        assert offered(served, "pointsman runs show x", url=url) == set()


def test_bash_takes_what_is_offered(served: Served, tmp_path: Path) -> None:
    """The script that `--install-completion` writes, in a real bash."""
    served.invoke("start", "waits", "--id", "in-bash-1")
    script = served.cli(_POINTSMAN_COMPLETE="source_bash").stdout
    command = tmp_path / "pointsman"
    command.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m pointsman.cli.main \"$@\"\n")
    command.chmod(0o755)
    typed = "COMP_WORDS=(pointsman runs show in-b); COMP_CWORD=3; _pointsman_completion pointsman; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{typed}"], capture_output=True, text=True, check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "POINTSMAN_URL": served.url},
    )  # fmt: skip
    assert done.stdout.strip() == "in-bash-1", done.stderr
