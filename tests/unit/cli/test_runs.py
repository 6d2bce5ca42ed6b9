"""The verbs on runs, against a real API."""

from __future__ import annotations

import json

import httpx
import msgspec
import pytest

from pointsman.client import Client, ResultBody
from tests.unit.cli.conftest import Served


def test_start_prints_the_id_alone(served: Served) -> None:
    result = served.invoke("start", "greet", '"ann"', "--id", "ann-1")
    assert (result.exit_code, result.stdout) == (0, "ann-1\n")


def test_starting_again_is_the_same_run_and_says_so(served: Served) -> None:
    served.invoke("start", "greet", '"bob"', "--id", "bob-1", "--wait")
    again = served.invoke("start", "greet", '"bob"', "--id", "bob-1")
    assert again.exit_code == 0
    assert again.stdout == "bob-1\n"
    assert "started before and is completed" in again.stderr


def test_start_with_another_input_is_refused_by_code(served: Served) -> None:
    served.invoke("start", "greet", '"x"', "--id", "conflict-1")
    other = served.invoke("start", "greet", '"y"', "--id", "conflict-1")
    assert other.exit_code == 1
    assert other.stderr.startswith("pointsman: run_conflict: ")
    assert other.stderr.count("\n") == 1


def test_wait_prints_the_output_as_json(served: Served) -> None:
    result = served.invoke("start", "greet", '"eve"', "--wait")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == "hello eve at last"


def test_input_comes_from_stdin(served: Served) -> None:
    result = served.invoke("start", "greet", "-", "--wait", stdin='"pipe"')
    assert json.loads(result.stdout).startswith("hello pipe")


def test_a_failed_run_is_exit_code_1(served: Served) -> None:
    result = served.invoke("start", "breaks", '"z"', "--id", "broken-1", "--wait")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("pointsman: run_failed: run broken-1 failed: ")
    assert "\x1b" not in result.stderr
    as_json = served.invoke("result", "broken-1", "--json")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["status"] == "failed"


def test_result_past_its_deadline_is_exit_code_4(served: Served) -> None:
    served.invoke("start", "waits", "--id", "slow-1")
    result = served.invoke("result", "slow-1", "--timeout", "0.05")
    assert result.exit_code == 4
    assert result.stderr.startswith("pointsman: timeout: run slow-1 is ")


def test_signal_and_its_key(served: Served) -> None:
    served.invoke("start", "waits", "--id", "signalled-1")
    first = served.invoke("signal", "signalled-1", "go", '"now"', "--key", "k1")
    again = served.invoke("signal", "signalled-1", "go", '"now"', "--key", "k1", "--json")
    assert (first.exit_code, first.stdout) == (0, "accepted\n")
    # The run may have ended in between; either way the second is not counted.
    assert again.exit_code == 1 or json.loads(again.stdout)["repeated"]
    assert json.loads(served.invoke("result", "signalled-1", "--timeout", "10").stdout) == "now"


def test_release(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.invoke("start", "waits", "--id", "released-1")
    refused = served.invoke("release", "released-1")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("pointsman: not_quarantined: run released-1 is ")
    asked = []
    monkeypatch.setattr(Client, "request", lambda _, *said, **__: (asked.append(said), (200, {"status": "running"}))[1])
    assert served.invoke("release", "released-1").stdout == "released; it is running\n"
    assert json.loads(served.invoke("release", "released-1", "--json").stdout) == {"status": "running"}
    assert asked == [("POST", "/v1/runs/released-1/release")] * 2


def test_cancel(served: Served) -> None:
    served.invoke("start", "waits", "--id", "cancelled-1")
    assert served.invoke("cancel", "cancelled-1", "--reason", "enough").stdout == "asked to stop\n"
    result = served.invoke("result", "cancelled-1", "--timeout", "10")
    assert result.exit_code == 1
    assert "run_cancelled" in result.stderr
    assert "enough" in result.stderr


def test_ls_filters_and_pages(served: Served) -> None:
    for number in range(3):
        served.invoke("start", "greet", '"p"', "--id", f"page-{number}", "--tenant", "pages", "--attribute", "n=1")
    first = json.loads(served.invoke("ls", "--tenant", "pages", "--limit", "2", "--json").stdout)
    rest = served.invoke("ls", "--tenant", "pages", "--limit", "2", "--cursor", first["cursor"], "--json")
    ids = {run["id"] for run in first["runs"] + json.loads(rest.stdout)["runs"]}
    assert ids == {"page-0", "page-1", "page-2"}
    assert json.loads(served.invoke("ls", "--attribute", "n=2", "--tenant", "pages", "--json").stdout)["runs"] == []


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/tasks", "/v1/budgets"])
@pytest.mark.parametrize("cursor", ["", "garbage", "AAAA", "W10%3D"])
def test_a_cursor_that_no_page_gave_is_a_bad_query(served: Served, path: str, cursor: str) -> None:
    answer = httpx.get(f"{served.url}{path}?cursor={cursor}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_query"), answer.text
    assert answer.json()["detail"].startswith("cursor: ")


def test_ls_without_a_terminal_is_plain_columns(served: Served) -> None:
    served.invoke("start", "greet", '"plain"', "--id", "plain-1", "--tenant", "plain", "--wait")
    lines = served.invoke("ls", "--tenant", "plain").stdout.splitlines()
    assert lines[0].split() == ["id", "workflow", "status", "tenant", "events", "started", "took"]
    assert lines[1].split()[:5] == ["plain-1", "greet", "v1", "completed", "plain"]
    assert all(line == line.rstrip() and line.isascii() for line in lines)


def test_show_tells_the_story(served: Served) -> None:
    served.invoke("start", "greet", '"story"', "--id", "story-1", "--wait")
    shown = served.invoke("show", "story-1").stdout
    assert shown.startswith("story-1  greet v1  completed\n")
    retried = next(line for line in shown.splitlines() if "flaky#1" in line)
    assert " 2 " in retried
    assert "agent_error: not yet" in retried
    assert "\x1b" not in shown


def test_show_inputs_gives_every_input_in_full(served: Served) -> None:
    prompt = "line one\n" + "x" * 5_000 + "\nthe end"
    served.invoke("start", "greet", json.dumps(prompt), "--id", "prompt-1", "--wait")
    shown = served.invoke("show", "prompt-1", "--inputs").stdout
    assert "── greeter#1 → greeter" in shown
    assert shown.count("x" * 5_000) == 2
    assert "  the end\n" in shown


def test_show_cleans_what_would_steer_a_terminal(served: Served) -> None:
    served.invoke("start", "breaks", '"q"', "--id", "steer-1", "--wait")
    shown = served.invoke("show", "steer-1").stdout
    assert "\x1b" not in shown
    assert "[bold]q[/bold]" in shown


def test_show_json_is_one_document(served: Served) -> None:
    served.invoke("start", "greet", '"doc"', "--id", "doc-1", "--wait")
    document = json.loads(served.invoke("show", "doc-1", "--json").stdout)
    assert document["run"]["id"] == "doc-1"
    assert [event["sequence"] for event in document["events"]] == list(range(1, document["run"]["sequence"] + 1))


def test_tail_of_a_failed_run_is_exit_code_1_even_when_nothing_is_left_to_say(served: Served) -> None:
    served.invoke("start", "breaks", '"z"', "--id", "broken-2", "--wait")
    last = json.loads(served.invoke("show", "broken-2", "--json").stdout)["run"]["sequence"]
    rest = served.invoke("tail", "broken-2", "--after", str(last))
    assert (rest.exit_code, rest.stdout) == (1, "")


def test_tail_after_what_an_ended_run_never_had(served: Served) -> None:
    served.invoke("start", "greet", '"ida"', "--id", "short-1", "--wait")
    refused = served.invoke("tail", "short-1", "--after", "1000")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("pointsman: no_such_sequence: run short-1 is completed, and its last event is ")


def test_tail_gives_each_event_once_and_ends(served: Served) -> None:
    served.invoke("start", "greet", '"tail"', "--id", "tail-1")
    followed = served.invoke("tail", "tail-1", "--json")
    events = [json.loads(line) for line in followed.stdout.splitlines()]
    assert followed.exit_code == 0
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["type"] == "RunCompleted"
    rest = served.invoke("tail", "tail-1", "--after", str(len(events) - 1))
    assert len(rest.stdout.splitlines()) == 1
    nothing = served.invoke("tail", "tail-1", "--after", str(len(events)))
    assert (nothing.exit_code, nothing.stdout) == (0, "")


def test_tail_of_a_failed_run_is_exit_code_1(served: Served) -> None:
    served.invoke("start", "breaks", '"t"', "--id", "tail-2")
    followed = served.invoke("tail", "tail-2")
    assert followed.exit_code == 1
    assert "RunFailed" in followed.stdout


@pytest.mark.parametrize(
    "arguments",
    [("show", "nobody"), ("tail", "nobody"), ("result", "nobody"), ("cancel", "nobody"), ("release", "nobody")],
)
def test_an_unknown_run_is_exit_code_1(served: Served, arguments: tuple[str, ...]) -> None:
    result = served.invoke(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("pointsman: unknown_run: ")


@pytest.mark.parametrize("verb", ["show", "tail", "result", "cancel", "release"])
@pytest.mark.parametrize("id_", ["quoted-1?b", "quoted-1#b", "quoted-1%3Fb", "../v1/runs/quoted-1", "./quoted-1", ".."])
def test_an_id_is_asked_for_as_it_is_typed(served: Served, verb: str, id_: str) -> None:
    served.invoke("start", "greet", '"q"', "--id", "quoted-1", "--wait")
    result = served.invoke(verb, id_)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("pointsman: not_found: " if "/" in id_ else "pointsman: invalid_id: ")


def test_a_signals_name_is_asked_for_as_it_is_typed(served: Served) -> None:
    served.invoke("start", "waits", "--id", "quoted-2")
    assert served.invoke("signal", "quoted-2", "go?x").exit_code == 1
    assert served.invoke("result", "quoted-2", "--timeout", "0.05").exit_code == 4
    assert served.invoke("cancel", "quoted-2").exit_code == 0


@pytest.mark.parametrize(
    ("status", "failure", "says"),
    [
        (
            "stopped",
            {"kind": "code_changed", "message": "no such step"},
            "code_changed: no such step; deploy code that",
        ),
        ("quarantined", {"kind": "corrupt_log", "message": "a hole"}, "corrupt_log: a hole; a person must look at it"),
        ("quarantined", None, "a person must look at it"),
    ],
)
def test_a_run_that_is_held_back_says_why_and_what_to_do(
    served: Served, monkeypatch: pytest.MonkeyPatch, status: str, failure: dict[str, str] | None, says: str
) -> None:
    answer = {"id": "held-1", "status": status, **({"failure": failure} if failure else {})}
    monkeypatch.setattr(Client, "wait", lambda *_, **__: msgspec.convert(answer, ResultBody))
    result = served.invoke("result", "held-1", "--timeout", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"pointsman: run_{status}: run held-1 is {status}")
    assert says in result.stderr
    as_json = served.invoke("result", "held-1", "--json", "--timeout", "1")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout) == answer


def test_a_stranded_run_says_which_version_is_missing(served: Served) -> None:
    missing = "no living coordinator has gone v1: deploy that version"
    assert f"stranded: {missing}" in served.invoke("show", "stranded-1").stdout
    assert served.json("runs", "show", "stranded-1")["run"]["stranded"].startswith(missing)
    result = served.invoke("result", "stranded-1", "--timeout", "0.05")
    assert result.exit_code == 4
    assert missing in result.stderr
    assert "it goes on, ask again" not in result.stderr


def test_errors_with_json_are_one_object_on_stderr(served: Served) -> None:
    result = served.invoke("show", "nobody", "--json")
    assert result.stdout == ""
    assert json.loads(result.stderr)["code"] == "unknown_run"


@pytest.mark.parametrize(
    "arguments",
    [
        ("start", "greet", "not json"),
        ("start", "greet", "1", "--timeout", "3"),
        ("start", "greet", "1", "--attribute", "novalue"),
        ("signal", "x", "go", "{"),
        ("ls", "--attribute", "novalue"),
        ("ls", "--limit", "0"),
        ("show",),
        *((verb, "") for verb in ("show", "tail", "result", "cancel", "release")),
        ("signal", "", "go"),
        ("signal", "x", ""),
        ("start", "greet", "1", "--id", ""),
        ("ls", "--url", "nonsense"),
        ("ls", "--url", "ftp://127.0.0.1"),
    ],
)
def test_wrong_usage_is_exit_code_2(served: Served, arguments: tuple[str, ...]) -> None:
    assert served.invoke(*arguments).exit_code == 2


def test_nobody_there_is_exit_code_3(served: Served) -> None:
    for arguments in (("ls",), ("tail", "x"), ("result", "x"), ("start", "greet", '"x"')):
        result = served.invoke(*arguments, "--url", "http://127.0.0.1:9")
        assert result.exit_code == 3
        assert result.stderr.startswith("pointsman: unreachable: no answer from http://127.0.0.1:9")
