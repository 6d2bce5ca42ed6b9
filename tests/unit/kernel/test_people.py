"""`run.ask` in the kernel alone: what a body gets, and what its log keeps."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import pytest
from pydantic import BaseModel, field_validator

from pointsman import Answer, App, CallError, NotAnswered, Question, Run
from pointsman.kernel import events as ev
from pointsman.kernel.errors import CallsUnderWay, InvalidInput, InvalidValue, NonDeterministicWorkflow
from pointsman.kernel.execution import Execution
from pointsman.kernel.state import PendingCall
from tests.support.lab import Lab

app = App("people")
REFUSED = ev.Failure("not_answered", "ann refused: no", retryable=False)
HOUR = 3_600_000


class Refund(BaseModel):
    amount: int
    note: str = ""

    @field_validator("note")
    @classmethod
    def is_polite(cls, note: str) -> str:
        if note == "rude":
            raise ValueError("be polite")
        return note


@app.agent
async def clerk(n: int) -> int:
    return n


Body = Callable[[Run], Awaitable[object]]


def lab(body: Body, **options: Any) -> Lab:
    """A run of a workflow with this body, which gives what the body gives."""
    own = App("own")
    own.agent(clerk.function)  # type: ignore[call-overload]

    @own.workflow(name="w")
    async def w(run: Run) -> object:
        return await body(run)

    return Lab(own, w, answer=lambda pending: pending.data, **options)


def requested(run: Lab) -> list[ev.HumanTaskRequested]:
    decode = msgspec.json.Decoder(ev.HumanTaskRequested).decode
    return [decode(row.body) for row in run.log if row.type == "HumanTaskRequested"]


def told(answer: Answer[Any]) -> list[object]:
    value = answer.value if answer.is_given else None
    return [answer.outcome, answer.by, answer.reason, value.model_dump() if isinstance(value, Refund) else value]


async def ask_for_refund(run: Run) -> object:
    return told(await run.ask("Refund?", proposed=Refund(amount=30), expires_in=3_600))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b'{"amount":30,"note":""}', ["accepted", "ann", "", {"amount": 30, "note": ""}]),
        (b'{"amount":20,"note":"x"}', ["edited", "ann", "", {"amount": 20, "note": "x"}]),
        (REFUSED, ["refused", "ann", "ann refused: no", None]),
        (None, ["expired", "", "", None]),
    ],
)
@pytest.mark.parametrize("evicts", [False, True])
def test_what_a_body_gets(said: Any, expected: list[object], evicts: bool) -> None:
    run = lab(ask_for_refund, people=[said], evict=lambda _: evicts).run()
    assert run.output == expected


def test_when_it_was_answered_is_what_the_mailbox_says() -> None:
    async def body(run: Run) -> object:
        answer = await run.ask("When?")
        return [answer.at * 1000, run.now() * 1000]

    run = lab(body, people=[b"1"]).run()
    assert run.output == [run.now - 5, run.now]


async def value_of(run: Run) -> object:
    return (await run.ask("Yes?", expires_in=10)).value


@pytest.mark.parametrize(("said", "kind"), [(REFUSED, "not_answered"), (None, "expired")])
def test_a_value_that_nobody_gave_fails_the_run_by_name_and_a_redrive_asks_again(said: Any, kind: str) -> None:
    run = lab(value_of, people=[said]).run()
    assert run.failure.kind == kind
    first = requested(run)[0].task
    run.redrive()
    (task,) = (run.execution.state.tasks or {}).values()
    assert task.id != first
    assert (task.question, task.expires_at, task.call) == ("Yes?", run.now + 10_000, "ask#1")
    run._people.append(None)
    run.run()
    assert run.failure.kind == "expired"
    run.redrive()
    (again,) = (run.execution.state.tasks or {}).values()
    assert again.id not in (first, task.id)
    run._people.append(b'"yes"')
    assert run.run().output == "yes"
    assert "HumanTaskRequested" not in [row.type for row in run.log[3:]]


async def test_not_answered_is_a_call_error_that_names_its_call() -> None:
    async def body(run: Run) -> object:
        try:
            return (await run.ask("Yes?", key="sign")).value
        except CallError as error:
            return [isinstance(error, NotAnswered), error.kind, error.call]

    assert lab(body, people=[REFUSED]).run().output == [True, "not_answered", "sign"]


@pytest.mark.parametrize(
    ("schema", "proposed", "expected"),
    [
        (None, None, b""),
        (bool, None, b'{"type":"boolean"}'),
        ({"type": "string"}, None, b'{"type":"string"}'),
        (Literal["a", "b"], None, b'{"enum":["a","b"],"type":"string"}'),
        (None, "text", b'{"type":"string"}'),
        (None, 3, b'{"type":"integer"}'),
        (float, 3, b'{"type":"number"}'),
    ],
)
def test_the_schema_is_recorded_with_the_question(schema: Any, proposed: Any, expected: bytes) -> None:
    async def body(run: Run) -> object:
        more = {} if proposed is None else {"proposed": proposed}
        return await run.ask("What?", schema=schema, **more)

    assert bytes(requested(lab(body))[0].schema) == expected


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"question": " "}, "1 to 1000 characters"),
        ({"question": "x" * 1_001}, "context="),
        ({"question": "a\x00"}, "U\\+0000"),
        ({"assignee": "x" * 129}, "128"),
        ({"assignee": " "}, "128"),
        ({"expires_in": 0}, "expires_in=0"),
        ({"expires_in": float("nan")}, "finite"),
        ({"escalate_to": "leads"}, "go together"),
        ({"escalate_in": 5}, "go together"),
        ({"escalate_to": "leads", "escalate_in": 5, "expires_in": 5}, "before anybody else"),
        ({"escalate_to": "leads", "escalate_in": 5, "escalate": [(6, "board")]}, "has all the steps"),
        ({"escalate": [(5, "leads"), (5, "board")]}, "later than the one before"),
        ({"escalate": [(5, "leads"), (9, "board")], "expires_in": 9}, "before anybody else"),
        ({"escalate": [(5, "")]}, "a list of steps"),
        ({"escalate": [5, "leads"]}, "a list of steps"),
        ({"escalate": [(0, "leads")]}, "escalate=0"),
        ({"escalate": [(5, "x" * 129)]}, "128"),
        ({"until": datetime(2030, 1, 1)}, "no time zone"),  # noqa: DTZ001  that is what is wrong with it
        ({"until": float("nan")}, "seconds since 1970"),
        ({"until": 5, "expires_in": 5}, "not both"),
        ({"proposed": float("inf")}, "NaN and Infinity"),
        ({"context": object()}, "not a JSON value"),
        ({"schema": object()}, "described by a schema"),
        ({"schema": {"type": "strange"}}, "strange"),
        ({"schema": {"$ref": "https://example.org/"}}, "nothing is fetched"),
    ],
)
def test_what_makes_no_sense_is_refused_in_the_body(options: dict[str, Any], why: str) -> None:
    async def body(run: Run) -> object:
        await run.ask(**{"question": "Well?", **options})
        return None

    run = lab(body).run()
    assert run.failure.kind in ("invalid_value", "invalid_schema")
    assert re.search(why, run.failure.message), run.failure.message
    assert run.types == ["RunStarted", "RunFailed"]


def test_a_proposal_must_fit_its_own_schema() -> None:
    async def body(run: Run) -> object:
        return await run.ask("What?", schema={"type": "string"}, proposed=5)

    assert lab(body).failure.kind == "invalid_input"


def test_an_answer_that_only_the_type_refuses_is_raised_where_the_body_waits() -> None:
    async def body(run: Run) -> object:
        said = []
        for _ in range(2):
            try:
                said.append((await run.ask("Refund?", schema=Refund)).value.note)
            except InvalidInput as error:
                said.append(str(error).partition(": answer")[0])
        return said

    run = lab(body, people=[b'{"amount":1,"note":"rude"}', b'{"amount":1,"note":"kind"}'], evict=lambda _: True).run()
    assert run.output == ["the answer of ann to ask#1: an answer: note: Value error, be polite", "kind"]


def test_a_task_goes_to_somebody_else_and_then_expires() -> None:
    async def body(run: Run) -> object:
        return told(await run.ask("Yes?", assignee="ann", escalate_to="leads", escalate_in=60, expires_in=3_600))

    run = lab(body, people=["bob", None, None])
    for assignee, due in (("ann", 60_000), ("bob", 60_000), ("leads", HOUR)):
        (task,) = (run.execution.state.tasks or {}).values()
        assert (task.assignee, task.next_due()) == (assignee, task.opened_at + due)
        run.step()
    assert run.output == ["expired", "", "", None]
    kinds = [kind for kind in run.types if kind.startswith("HumanTask")]
    assert kinds == ["HumanTaskRequested", "HumanTaskAssigned", "HumanTaskEscalated", "HumanTaskExpired"]


@pytest.mark.parametrize("evicts", [False, True])
def test_a_task_goes_from_one_to_the_next_until_its_moment(evicts: bool) -> None:
    """Each step counts from the beginning; who is asked by a person's word keeps it until the next step."""
    end = 8_000
    when: Any = datetime.fromtimestamp(end, UTC) if evicts else float(end)

    async def body(run: Run) -> object:
        steps = [(60, "leads"), (3_600, "head"), (5_000, "board")]
        return told(await run.ask("Yes?", assignee="ann", escalate=steps, until=when))

    run = lab(body, people=[None, "bob", None, None, None], evict=lambda _: evicts)
    seen = []
    while run.execution.state.tasks:
        (task,) = run.execution.state.tasks.values()
        seen.append((task.assignee, task.escalate_to, (task.next_due() or 0) - task.opened_at))
        run.step()
    last = end * 1000 - 1_000_000
    assert seen == [
        ("ann", "leads", 60_000), ("leads", "head", HOUR), ("bob", "head", HOUR), ("head", "board", 5_000_000),
        ("board", "", last),
    ]  # fmt: skip
    assert run.output == ["expired", "", "", None]
    steps = [msgspec.json.decode(row.body).get("step", 1) for row in run.log if row.type == "HumanTaskEscalated"]
    assert steps == [1, 2, 3]


def test_steps_whose_time_passed_while_nobody_looked_are_taken_one_after_the_other() -> None:
    async def body(run: Run) -> object:
        return (await run.ask("Yes?", escalate=[(60, "leads"), (3_600, "head"), (86_400, "board")])).outcome

    run = lab(body)
    run.now += 7_200_000
    run._pass_time()
    run._append()
    assert run.types[-2:] == ["HumanTaskEscalated", "HumanTaskEscalated"]
    (task,) = (run.execution.state.tasks or {}).values()
    assert (task.assignee, task.escalate_to, task.next_due()) == ("head", "board", task.opened_at + 86_400_000)


def test_a_question_of_a_failure_chain_has_its_moment_and_its_steps() -> None:
    who = Question("By hand?", until=datetime(2030, 1, 1, tzinfo=UTC), escalate=[(1, "a"), (2, "b")])
    assert who.person.terms.expires_at == 1_893_456_000_000
    assert [(step.after_ms, step.to) for step in who.person.terms.escalations] == [(1_000, "a"), (2_000, "b")]


def test_what_was_never_looked_at_in_time_expires_and_is_not_escalated() -> None:
    """Its coordinators were all away for a day."""

    async def body(run: Run) -> object:
        return (await run.ask("Yes?", escalate_to="leads", escalate_in=60, expires_in=3_600)).outcome

    run = lab(body)
    run.now += 86_400_000
    run._pass_time()
    run._append()
    assert run.output == "expired"
    assert "HumanTaskEscalated" not in run.types


def test_a_question_that_is_given_up_waits_no_more() -> None:
    async def body(run: Run) -> object:
        question = run.start_ask("Yes?", expires_in=50)
        timer = run.start_sleep(5)
        first = await run.first(question, timer)
        question.cancel()
        await run.sleep(100)
        return first is timer

    run = lab(body).run()
    assert run.output is True
    assert "HumanTaskExpired" not in run.types
    assert run.execution.state.tasks is None


def test_a_run_does_not_restart_over_an_open_question() -> None:
    async def body(run: Run) -> object:
        run.start_ask("Yes?")
        await run.sleep(1)
        run.restart()

    assert lab(body).run().failure.kind == CallsUnderWay.code


def test_two_questions_are_answered_each_for_itself() -> None:
    async def body(run: Run) -> object:
        answers = await run.gather(run.start_ask("One?"), run.start_ask("Two?", proposed=5))
        return [[answer.outcome, answer.value] for answer in answers]

    run = lab(body, people=[b"1", b"5"])
    assert len({task.id for task in (run.execution.state.tasks or {}).values()}) == 2
    assert run.run().output == [["answered", 1], ["accepted", 5]]


def replayed(log: list[ev.Recorded], question: str, **options: Any) -> Execution:
    """The log, driven by code that asks this."""
    own = App("own")

    @own.workflow(name="w")
    async def w(run: Run) -> object:
        return (await run.ask(question, **options)).value

    execution = Execution("run-1", w, own.directory)
    execution.replay(log)
    return execution


def test_code_that_asks_something_else_stops_under_an_open_question() -> None:
    async def body(run: Run) -> object:
        return (await run.ask("Send 10?", context={"n": 1}, proposed=True)).value

    run = lab(body)
    assert not replayed(run.log, "Send 10?", context={"n": 1}, proposed=True, assignee="bob").new
    for question, options in (
        ("Send 99?", {"context": {"n": 1}, "proposed": True}),
        ("Send 10?", {"context": {"n": 2}, "proposed": True}),
        ("Send 10?", {"context": {"n": 1}, "proposed": False}),
        ("Send 10?", {"context": {"n": 1}}),
    ):
        with pytest.raises(NonDeterministicWorkflow, match="the open question 'Send 10\\?'"):
            replayed(run.log, question, **options)
    run._people.append(b"true")
    run.run()
    over = replayed(run.log, "Send 99?", proposed=True)
    assert over.warnings == ["ask#1: the code now asks another question; the recorded answer stands"]


def test_another_content_is_another_task() -> None:
    """What a person saw before a repair is not what is asked now, and has another id."""
    tasks = set()
    for text in ("Send 10?", "Send 11?"):

        async def body(run: Run, text: str = text) -> object:
            return await run.ask(text)

        tasks.add(requested(lab(body))[0].task)
    assert len(tasks) == 2


def test_a_person_at_the_end_of_a_chain_has_a_name_and_an_end() -> None:
    question = Question("And now?", assignee="ann", escalate_to="leads", escalate_in=5, expires_in=60)
    own = App("own")
    own.agent(clerk.function)  # type: ignore[call-overload]

    @own.workflow()
    async def w(run: Run, default: int | None) -> object:
        more = {} if default is None else {"default": default}
        return await run.call(clerk, 1, person=question, **more)

    def fails(_: PendingCall) -> ev.Failure:
        return ev.Failure("refused", "no", retryable=False)

    for default, people, output in ((7, [None, None], 7), (None, ["bob", b"3"], 3)):
        run = Lab(own, w, msgspec.json.encode(default), answer=fails, people=people, evict=lambda _: True).run()
        assert run.output == output
        assert run.types.count("HumanTaskOpened") == 1
    run = Lab(own, w, b"null", answer=fails, people=[None, None]).run()
    assert run.failure.kind == "expired"
    run.redrive()
    run._people.append(b"5")
    assert run.run().output == 5


@pytest.mark.parametrize("person", [5, ["ann"]])
def test_a_person_is_asked_by_text_or_a_question(person: Any) -> None:
    async def body(run: Run) -> object:
        return await run.call(clerk, 1, person=person)

    assert lab(body).failure.kind == "invalid_value"
    with pytest.raises(InvalidValue):
        Question("")
