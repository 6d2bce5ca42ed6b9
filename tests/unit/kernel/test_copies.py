"""Copies: whatever is found, the input is rebuilt exactly; and a conversation's log grows with its new content only."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman import App, Run
from pointsman.kernel import copies as copying
from pointsman.kernel import events as ev
from pointsman.kernel.copies import Copies, common_back, common_front
from pointsman.kernel.errors import CorruptLog
from pointsman.kernel.execution import Execution
from pointsman.kernel.history import whole_input
from pointsman.kernel.pieces import INLINE_BYTES_MAX, split_body
from pointsman.kernel.state import PendingCall
from pointsman.kernel.values import digest, encode
from pointsman.testing.replay import load, replay_prefixes, save
from tests.support.lab import Lab

app = App("copies")
TURNS = {"small": (3, 20), "medium": (30, 300), "long": (400, 1_000)}
"""Turns of a conversation, and characters of a message."""


@app.agent
async def speak(messages: list[dict[str, str]]) -> str:
    return ""


@app.agent
async def judge(messages: list[dict[str, str]], rules: str) -> str:
    return ""


def words(seed: str, size: int) -> str:
    """Text that repeats nothing by chance, with characters of one to four bytes and some that JSON escapes."""
    rng = random.Random(seed)
    letters = string.ascii_letters + string.digits + ' \n"\\éèß→漢字🙂'
    return "".join(rng.choices(letters, k=size))


async def talk(run: Run, kind: str) -> int:
    turns, size = TURNS[kind]
    messages: list[dict[str, str]] = []
    for turn in range(turns):
        messages.append({"role": "user", "content": words(f"user {turn}", size)})
        messages.append({"role": "assistant", "content": await run.call(speak, messages)})
    return len(messages)


app.workflow()(talk)


@app.workflow()
async def debate(run: Run, turns: int) -> int:
    """Two agents, each with an input of its own that grows, and one that is called twice at a time."""
    said: list[dict[str, str]] = [{"role": "user", "content": words("topic", 3_000)}]
    rules = words("rules", 2_500)
    for _ in range(turns):
        one, two = run.start(speak, said), run.start(speak, [*said, {"role": "user", "content": "again"}])
        said.append({"role": "one", "content": f"they said: {await one}"})
        said.append({"role": "two", "content": await two})
        said.append({"role": "judge", "content": await run.call(judge, said[-4:], rules)})
    return len(said)


def answer(size: int) -> Callable[[PendingCall], bytes]:
    return lambda pending: encode(words(pending.call, size))


def talked(kind: str, **options: Any) -> Lab:
    workflow = app.directory.workflow("talk")
    assert workflow is not None
    turns, size = TURNS[kind]
    done = Lab(app, workflow, encode(kind), answer=answer(size), **options).run(steps_max=turns + 1)
    assert done.output == 2 * turns
    return done


def inputs_of(log: list[ev.Recorded]) -> list[bytes]:
    """Every input of a log, rebuilt from the log alone and checked against its digest."""
    events = [(ev.decode_event(row), row) for row in log]
    return [
        whole_input(event, row, lambda n: log[n - 1].body)
        for event, row in events
        if isinstance(event, ev.RunStarted | ev.CallRequested)
    ]


def pieces_in(log: list[ev.Recorded]) -> list[ev.CallRequested]:
    events = [ev.decode_event(row) for row in log if row.type == "CallRequested"]
    return [event for event in events if isinstance(event, ev.CallRequested) and event.pieces]


# -- a conversation --------------------------------------------------------------------------------------------------


def test_the_log_of_a_conversation_grows_with_its_new_content_only() -> None:
    log = talked("long").log
    last = inputs_of(log)[-1]
    content = len(last) + 1_000
    written = sum(len(row.body) for row in log)
    assert written <= 1.1 * content, written / content
    assert sum(len(data) for data in inputs_of(log)) > 100 * content
    assert max(len(event.pieces) for event in pieces_in(log)) <= 4


def test_a_run_that_left_memory_writes_the_same_bytes() -> None:
    always, sometimes = talked("medium"), talked("medium", evict=lambda step: step % 7 == 3)
    assert [row.body for row in sometimes.log] == [row.body for row in always.log]


def test_a_long_conversation_that_leaves_memory_at_every_50th_step() -> None:
    log = talked("long", evict=lambda step: step % 50 == 49).log
    assert sum(len(row.body) for row in log) <= 1.1 * (len(inputs_of(log)[-1]) + 1_000)


def test_every_prefix_replays_and_the_log_is_text(tmp_path: Any) -> None:
    log = talked("medium").log
    assert pieces_in(log)
    save(log, tmp_path / "talk.jsonl")
    assert load(tmp_path / "talk.jsonl") == log
    assert replay_prefixes(app, "run-1", log).outcome is not None


def test_two_agents_and_calls_at_the_same_time() -> None:
    workflow = app.directory.workflow("debate")
    assert workflow is not None
    done = Lab(app, workflow, b"12", answer=answer(700)).run()
    assert done.output == 37
    again = Lab(app, workflow, b"12", answer=answer(700), evict=lambda step: True).run()
    assert [row.body for row in again.log] == [row.body for row in done.log]
    content = 3_000 + 2_500 + 36 * 700
    assert sum(len(row.body) for row in done.log) < 2 * content < sum(len(data) for data in inputs_of(done.log)) / 5
    replay_prefixes(app, "run-1", done.log)


def test_a_pending_call_gets_its_whole_input_back() -> None:
    lab = Lab(app, talk_workflow(), encode("long"), answer=answer(1_000)).run(steps_max=80)
    (pending,) = lab.execution.state.calls.values()
    back = Execution("run-1", talk_workflow(), app.directory)
    back.replay(lab.log)
    assert back.state.calls[pending.call].data == pending.data
    assert len(pending.data) > 100_000
    assert back.size > 4_500 + len(pending.data), "what a run remembers counts in the cache's budget"


def talk_workflow() -> Any:
    return app.directory.workflow("talk")


# -- small inputs ----------------------------------------------------------------------------------------------------


def test_small_inputs_stay_whole_and_nobody_looks_for_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    def entered(*arguments: object) -> None:
        raise AssertionError("the finder was entered")

    monkeypatch.setattr(copying.Copies, "find", entered)
    monkeypatch.setattr(copying.Copies, "_note_outcome", entered)
    done = talked("small")
    assert not pieces_in(done.log)
    assert max(len(data) for data in inputs_of(done.log)) <= INLINE_BYTES_MAX
    assert done.execution.size < 4_500 + 1_000


# -- exactness -------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=300)
VALUE = st.recursive(TEXT | st.integers(-9, 9), lambda inner: st.lists(inner, max_size=4), max_leaves=5)
STEP = st.tuples(st.sampled_from("abc"), VALUE, VALUE, st.integers(0, 6), st.booleans(), st.integers(1, 40))


def recorded(log: list[ev.Recorded], event: ev.Event, tail: bytes, copies: Copies, data: bytes) -> None:
    body = ev.encode_event(event, tail)
    log.append(ev.Recorded(len(log) + 1, 0, type(event).__name__, 1, body))
    copies.note(len(log), event, body, data)


def requested(copies: Copies, call: str, target: str, data: bytes) -> tuple[ev.CallRequested, bytes]:
    """A request, and the tail of its body."""
    event = ev.CallRequested(call, target, msgspec.Raw(data))
    if len(data) <= INLINE_BYTES_MAX:
        return event, b""
    cut, tail = copies.cut(event, data)
    assert isinstance(cut, ev.CallRequested)
    return cut, tail


@settings(max_examples=150, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=12))
def test_any_input_is_rebuilt_exactly(steps: list[tuple[str, Any, Any, int, bool, int]]) -> None:
    """Inputs that share parts with earlier inputs and outcomes, in any order; text that ends within a character."""
    copies, log, inputs = Copies(), list[ev.Recorded](), list[bytes]()
    parts: list[Any] = [""]
    recorded(log, ev.RunStarted(workflow="w", seed="s"), b"", copies, b"")
    for number, (target, new, output, kept, is_nested, times) in enumerate(steps):
        shared = parts[-kept:] if kept % 2 else parts[:kept]
        data = encode([*shared, new, {"in": shared}] if is_nested else str([*shared, new]) * times)
        event, tail = requested(copies, f"{target}#{number}", target, data)
        inputs.append(data)
        recorded(log, event, tail, copies, data)
        log[-1].body.decode()
        outcome = ev.CallCompleted(call=event.call, output=msgspec.Raw(encode([output] * times)))
        recorded(log, outcome, b"", copies, b"")
        parts += [new, output, [output] * times]
    assert inputs_of(log)[1:] == inputs


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_what_two_strings_have_in_common(a: bytes, b: bytes, front: bytes, back: bytes) -> None:
    one, two = front + a + back, front + b + back
    n = common_front(one, two)
    assert n >= len(front)
    assert one[:n] == two[:n]
    assert one[n : n + 1] != two[n : n + 1] or n == min(len(one), len(two))
    assert common_back(one, two) == common_front(one[::-1], two[::-1])


def found(copies: Copies, target: str, data: bytes) -> int:
    """How many bytes are written as literals."""
    return len(copies.find(target, data)[1])


def filled() -> Copies:
    copies, log = Copies(), list[ev.Recorded]()
    data = encode(words("input", 3_000))
    event, tail = ev.with_input(ev.CallRequested, data, call="a#1", target="a")
    recorded(log, event, tail, copies, data)
    outcome = ev.CallCompleted(call="a#1", output=msgspec.Raw(encode({"text": words("output", 3_000), "score": 1})))
    recorded(log, outcome, b"", copies, b"")
    return copies


def test_what_is_found_where() -> None:
    copies = filled()
    before, text = words("input", 3_000), words("output", 3_000)
    assert found(copies, "a", encode(words("new", 3_000))) > 3_000, "nothing that it holds"
    assert found(copies, "a", encode("to begin with: " + before)) < 80, "the end"
    assert found(copies, "a", encode(before + " and so on")) < 80, "the beginning"
    assert found(copies, "a", encode("I heard: " + text + "!")) < 80, "a part of an outcome"
    assert found(copies, "b", encode([text, before])) < 80, "another target's"
    assert found(copies, "a", encode(before[1_000:] + before[:1_000])) < 80, "in another order"


def test_the_memory_of_a_run_is_bounded() -> None:
    copies, log = Copies(), list[ev.Recorded]()
    most = copying.INPUTS_BYTES_MAX + copying.OUTCOMES_BYTES_MAX
    for number in range(30):
        data = encode(words(str(number), 200_000))
        event, tail = ev.with_input(ev.CallRequested, data, call=f"{number}#1", target=str(number))
        recorded(log, event, tail, copies, data)
        output = msgspec.Raw(encode(words(f"out {number}", 60_000)))
        recorded(log, ev.CallCompleted(call=f"{number}#1", output=output), b"", copies, b"")
        assert copies.size <= most
    assert copies.size > most / 2
    assert found(copies, "29", encode(words("29", 200_000))) == 0
    assert found(copies, "0", encode(words("0", 200_000))) > 200_000, "forgotten: a literal"


def test_other_bytes_than_recorded_are_corruption() -> None:
    """The digest stands over the pieces: one that points elsewhere does not become another prompt."""
    log = talked("medium").log
    at = max(n for n, row in enumerate(log) if row.type == "CallRequested")
    event = ev.decode_event(log[at])
    assert isinstance(event, ev.CallRequested)
    (source, offset, length), *rest = event.pieces
    for wrong in ((source, offset - 1, length), (source - 2, offset, length)):
        moved = msgspec.structs.replace(event, pieces=(wrong, *rest))
        log[at] = msgspec.structs.replace(log[at], body=ev.encode_event(moved, split_body(log[at].body)[1]))
        with pytest.raises(CorruptLog):
            inputs_of(log)


def test_a_chain_of_10_000_copies_is_rebuilt() -> None:
    """Recursion would end at 1,000; and a rebuild that followed each copy by itself would never end."""
    log = [ev.Recorded(1, 0, "RunStarted", 1, ev.encode_event(ev.RunStarted(workflow="w", seed="s")))]
    whole = b""
    for number in range(10_000):
        new = b"message %06d " % number
        pieces: tuple[tuple[int, ...], ...] = ((len(new),),)
        if whole:
            pieces = ((len(log), log[-1].body.index(b"\n") + 1, len(whole)), *pieces)
        whole += new
        request = ev.CallRequested(call=f"a#{number}", target="a", pieces=pieces, digest=digest(whole))
        log.append(ev.Recorded(len(log) + 1, 0, "CallRequested", 1, ev.encode_event(request, new)))
    event = ev.decode_event(log[-1])
    assert isinstance(event, ev.CallRequested)
    assert whole_input(event, log[-1], lambda n: log[n - 1].body) == whole


def rebuilt(before: str, after: str) -> None:
    """`after` for the same target as `before`: exact, and what is written is text."""
    copies, log = Copies(), list[ev.Recorded]()
    for number, text in enumerate((before, after)):
        data = encode(text)
        event, tail = requested(copies, f"a#{number}", "a", data)
        recorded(log, event, tail, copies, data)
    assert inputs_of(log) == [encode(before), encode(after)]
    assert log[1].body.decode()
    assert len(split_body(log[1].body)[1]) < 100


def test_a_copy_is_cut_between_characters() -> None:
    """é is C3 A9, è is C3 A8, and ĩ is C4 A9: half of each is common with its neighbour."""
    front, back = words("front", 2_500), words("back", 2_500)
    rebuilt(front + "é" + back, front + "è" + back)
    rebuilt(front + "é" + back, front + "ĩ" + back)
    rebuilt("é" + front, back[:20] + "ĩ" + front + "è")


def test_front_and_back_do_not_overlap() -> None:
    rebuilt("ab" * 3_000, "ab" * 2_900)
    rebuilt("ab" * 2_900, "ab" * 2_930)


def test_what_a_replay_asks_for_anew_is_what_the_log_has() -> None:
    """Several large requests of one cause, of which the later copy from the first: it is not appended yet."""
    workflow = app.directory.workflow("debate")
    assert workflow is not None
    log = Lab(app, workflow, b"5", answer=answer(700)).run().log
    for length in range(1, len(log)):
        execution = Execution("run-1", workflow, app.directory)
        execution.replay(log[:length])
        new = [produced.body for produced in execution.take()]
        execution.close()
        assert new == [row.body for row in log[length : length + len(new)]]
