"""`pointsman inbox`, against a real API: a question of a run, and what people make of it."""

from __future__ import annotations

import getpass
from typing import Any

import pytest

from pointsman.cli.client import Client
from pointsman.cli.inbox import show
from tests.unit.cli.conftest import Served


def asked(served: Served, run: str, what: str = "boat") -> Any:
    """Start a run, and wait for the task that it opens."""
    assert served.invoke("start", "quote", f'"{what}"', "--id", run).exit_code == 0
    with Client(served.url, None) as client:
        next(event for event in client.follow(run, 0) if event["type"] == "HumanTaskOpened")
    (task,) = served.json("inbox", "ls", "--run", run)["tasks"]
    return task


def test_a_question_is_listed_shown_and_answered(served: Served) -> None:
    task = asked(served, "ask-1")["id"]
    header, row = served.cli("inbox", "ls", "--run", "ask-1").stdout.splitlines()
    assert header.split() == ["task", "status", "whose", "asked", "run", "call", "question", "because"]
    assert row.split()[:2] == [task, "open"]
    assert "What does it cost?" in row
    assert row.endswith("agent_error: no ?[31m[bold]boat[/bold]".replace("?", " "))
    shown = served.cli("inbox", "show", task).stdout
    assert shown.splitlines()[0] == f"{task}  open"
    assert "try 1, pricer: refused: what is a boat?" in shown
    assert "try 2, broken: agent_error: no" in shown
    assert '── input of pricer\n  "boat"\n' in shown
    assert '{"type": "integer"}' in shown
    assert f"pointsman inbox answer {task}" in shown
    answered = served.cli("inbox", "answer", "--by", "ann", task, "1200")
    assert (answered.exit_code, answered.stdout) == (0, "answered: run ask-1 goes on\n")
    assert served.invoke("result", "ask-1", "--timeout", "10").stdout == "1200\n"
    again = served.cli("inbox", "answer", "--by", "ann", task, "1200")
    assert (again.exit_code, again.stdout) == (0, "you had answered so before\n")
    assert served.json("inbox", "ls", "--run", "ask-1")["tasks"] == []
    assert [t["status"] for t in served.json("inbox", "ls", "--run", "ask-1", "--all")["tasks"]] == ["answered"]
    done = served.cli("inbox", "show", task).stdout
    assert "── answer of ann, " in done
    assert "pointsman inbox answer" not in done


def test_who_is_asked_next_is_shown_while_a_question_is_open() -> None:
    steps = [{"assignee": "leads", "at": "9:00"}, {"assignee": "board", "at": "12:00"}]
    task = {"assignee": "ann", "status": "open", "escalations": steps, "expires_at": "17:00", "handovers": []}
    (line,) = show._terms(task)
    assert line.plain == "assigned to ann · goes to leads at 9:00 · goes to board at 12:00 · expires at 17:00"
    (line,) = show._terms(task | {"status": "answered"})
    assert line.plain == "assigned to ann · expires at 17:00"


def test_runs_show_tells_who_failed_who_got_it_and_who_answered(served: Served) -> None:
    """The failure chain of a real run, at a glance."""
    task = asked(served, "glance-1")["id"]
    waiting = served.invoke("show", "glance-1").stdout
    assert "with a person" in next(line for line in waiting.splitlines() if "pricer#1" in line)
    served.cli("inbox", "answer", "--by", "ann", task, "7")
    served.invoke("result", "glance-1", "--timeout", "10")
    shown = [" ".join(line.split()) for line in served.invoke("show", "glance-1").stdout.splitlines()]
    call = next(line for line in shown if "pricer#1" in line)
    assert "pricer#1 pricer → broken → ann 2 " in call
    assert "answered 7" in call
    steps = shown[shown.index("time call what happened to it") + 1 :]
    assert [line.partition("pricer#1 ")[2] for line in steps] == [
        "broken gets it: pricer failed: refused: what is a boat?",
        f"a person is asked “What does it cost?” (pointsman inbox show {task}): broken failed, and there is no other "
        "agent: agent_error: no [31m[bold]boat[/bold]",
    ]


def test_an_answer_that_does_not_fit_says_where_and_the_first_that_does_counts(served: Served) -> None:
    task = asked(served, "ask-2")["id"]
    wrong = served.cli("inbox", "answer", "--by", "ann", task, '"much"')
    assert wrong.exit_code == 1
    assert wrong.stderr.startswith("pointsman: invalid_input: the result of pricer: Input should be a valid integer")
    assert served.cli("inbox", "answer", "--by", "ann", task, "1").exit_code == 0
    late = served.cli("inbox", "answer", "--by", "bob", task, "2")
    assert late.exit_code == 1
    assert late.stderr.startswith(f"pointsman: task_answered: ann answered task {task} at ")


def test_who_refuses_is_named_in_the_run(served: Served) -> None:
    task = asked(served, "ask-3")["id"]
    refused = served.cli("inbox", "refuse", "--by", "ann", "--reason", "no idea", task)
    assert (refused.exit_code, refused.stdout) == (0, "refused: run ask-3 is told\n")
    assert "you had refused before" in served.cli("inbox", "refuse", "--by", "ann", "--reason", "no idea", task).stdout
    result = served.invoke("result", "ask-3", "--timeout", "10")
    assert result.exit_code == 1
    assert "not_answered: " in result.stderr
    assert "ann refused: no idea" in result.stderr
    assert "ann refused: no idea" in served.cli("inbox", "show", task).stdout


def test_who_answers_is_the_user_unless_it_is_said(served: Served) -> None:
    task = asked(served, "ask-4")["id"]
    assert served.json("inbox", "answer", task, "5")["repeated"] is False
    with Client(served.url, None) as client:
        assert client.get(f"/v1/tasks/{task}")["answer"]["by"] == getpass.getuser()


def test_a_dash_begins_an_id_or_a_number_and_not_only_an_option(served: Served) -> None:
    task = asked(served, "ask-5")["id"]
    for verb in (("show",), ("answer", "-5"), ("refuse",)):
        result = served.cli("inbox", verb[0], "-_Ab9", *verb[1:])
        assert (result.exit_code, result.stderr.partition(": ")[2].partition(":")[0]) == (1, "unknown_task")
    assert served.cli("inbox", "answer", task, "-5").exit_code == 0
    assert served.invoke("result", "ask-5", "--timeout", "10").stdout == "-5\n"
    assert served.cli("inbox", "answer", task, "-5", "--bye", "ann").exit_code == 2


def test_pages(served: Served) -> None:
    for number in range(3):
        asked(served, f"page-task-{number}", what="x")
    first = served.json("inbox", "ls", "--limit", "2")
    rest = served.json("inbox", "ls", "--limit", "500", "--cursor", first["cursor"])
    runs = {task["run"] for task in first["tasks"] + rest["tasks"]}
    assert runs >= {f"page-task-{number}" for number in range(3)}
    assert "more: --cursor " in served.cli("inbox", "ls", "--limit", "2").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("show", "nobody"), 1, "unknown_task: "),
        (("answer", "nobody", "1"), 1, "unknown_task: "),
        (("refuse", "nobody"), 1, "unknown_task: "),
        (("show", "a/b"), 1, "not_found: "),
        (("show", ""), 2, "usage: "),
        (("answer", "x", "much"), 2, "usage: JSON is not JSON"),
        (("ls", "--status", "done"), 1, "invalid_query: "),
        (("ls", "--url", "http://127.0.0.1:9"), 3, "unreachable: "),
    ],
)
def test_errors_are_named(served: Served, arguments: tuple[str, ...], code: int, says: str) -> None:
    result = served.cli("inbox", *arguments)
    assert result.exit_code == code
    assert result.stderr.startswith(f"pointsman: {says}")
