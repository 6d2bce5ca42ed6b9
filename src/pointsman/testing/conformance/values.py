"""Values: bodies come back byte for byte, whatever they hold; text that can't be held is refused."""

from __future__ import annotations

import json
import random

from pointsman.kernel.errors import InvalidValue
from pointsman.kernel.events import Recorded
from pointsman.ports.event_log import NewEvent
from pointsman.testing.conformance.harness import Harness
from pointsman.testing.conformance.support import coordinator, coordinators, event, raises, until

_noise = random.Random(5)

BODIES: dict[str, bytes] = {
    "empty": b"",
    "an object": b"{}",
    "small": b'{"call":"triage#1","output":{"intent":"refund"}}',
    "numbers that a parser would rewrite": b'{"a":-0.0,"b":1e2,"c":1E+2,"d":0.10,"e":9007199254740993}',
    "keys twice and out of order": b'{"z":1,"a":2,"z":3}',
    "spaces": b' { "a" : [ 1 , 2 ] } ',
    "escapes": rb'{"text":"\u0041\/\n\u00e9\ud83d\ude82"}',
    "an escaped NUL": rb'{"text":"\u0000"}',
    "an escaped lone surrogate": rb'{"text":"\ud800"}',
    "Unicode": '{"text":"é ß 漢字 🚂 𝒜 \u2028 \ufeff"}'.encode(),
    "not JSON": b"{not json",
    "not text": bytes(range(256)),
    "a header and a tail": b'{"pieces":[[5]]}\n\x00\xff\n\x80',
    "a header and a tail of text": b'{"pieces":[[11]]}\n{"a":"b\\n"}',
    "a header and no tail": b'{"pieces":[]}\n',
    "at the edge of small": b'"' + b"x" * 2046 + b'"',
    "over the edge of small": b'"' + b"x" * 2047 + b'"',
    "50 KB of text": json.dumps({"text": "The agent said something long. " * 1650}).encode(),
    "50 KB that nothing compresses": b'{"pieces":[[50000]]}\n' + _noise.randbytes(50_000),
    "900 KB of text": b'{"text":"' + b"0123456789abcdef" * 56_000 + b'"}',
    "900 KB that nothing compresses": b"{}\n" + _noise.randbytes(900_000),
    "as compressed": b"\x28\xb5\x2f\xfd\x04\x00",
}
"""By what they try; the last begins like a zstandard frame."""


async def bodies_come_back_byte_for_byte(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    append = a.step("run", 1)
    append.events = [event(body) for body in BODIES.values()]
    await a.moved(append)
    stream = (await b.stream("run"))[1:]
    for name, recorded in zip(BODIES, stream, strict=True):
        assert recorded.body == BODIES[name], name

    async def fed() -> list[bytes]:
        events, _ = await b.store.log.feed()
        return [item.recorded.body for item in events[1:]]

    assert await until(fed) == list(BODIES.values())


async def bodies_of_a_batch_are_not_mixed_up(harness: Harness) -> None:
    """Small and large ones in turn, each in a run of its own."""
    a, b = await coordinators(harness, 2)
    await a.moved(*(a.create(name) for name in BODIES))
    steps = [a.step(name, 1) for name in BODIES]
    for step, body in zip(steps, BODIES.values(), strict=True):
        step.events = [event(body), event(b"{}"), event(body[::-1])]
    await a.moved(*steps)
    for name, body in BODIES.items():
        assert [recorded.body for recorded in (await b.stream(name))[1:]] == [body, b"{}", body[::-1]], name


async def mail_comes_back_byte_for_byte(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    for name, body in BODIES.items():
        await a.store.mailbox.post("run", name, "signal", body)
    mails = await b.store.mailbox.read("run", after=0)
    assert [(mail.key, mail.body) for mail in mails] == list(BODIES.items())
    for name, body in BODIES.items():
        found = await b.store.mailbox.find("run", name)
        assert found is not None
        assert found.body == body, name


async def an_event_keeps_its_other_fields(harness: Harness) -> None:
    a, b = await coordinators(harness, 2)
    await a.moved(a.create("run"))
    append = a.step("run", 1)
    append.nonce = b"\x00\xff\x00\x80\x7f\x01\x00\x00"
    append.events = [
        NewEvent(type="CallRequested", version=1, at=0, body=b"{}", checksum=2**32 - 1),
        NewEvent(type="Событие 🚂", version=32_000, at=253_402_300_799_999, body=b"{}", checksum=2**31),
        NewEvent(type="TimerFired", version=1, at=1, body=b"{}", checksum=0),
    ]
    await a.moved(append)
    expected = [
        (2, "CallRequested", 1, 0, 1, 2**32 - 1),
        (3, "Событие 🚂", 32_000, 253_402_300_799_999, 1, 2**31),
        (4, "TimerFired", 1, 1, 1, 0),
    ]

    def fields(item: Recorded) -> tuple[int, str, int, int, int, int]:
        return item.sequence, item.type, item.version, item.at, item.epoch, item.checksum

    assert [fields(item) for item in await b.stream("run") if item.sequence > 1] == expected

    async def fed() -> list[tuple[int, str, int, int, int, int]]:
        events, _ = await b.store.log.feed()
        return [fields(item.recorded) for item in events[1:]]

    assert await until(fed) == expected


async def attributes_come_back_as_values(harness: Harness) -> None:
    """JSON, not bytes: they are searched. And a caller's dict is not the store's."""
    a, b = await coordinators(harness, 2)
    attributes = {
        "text": "é 🚂 ' \" \\ \n",
        "number": 1.5,
        "big": 2**53,
        "no": False,
        "nothing": None,
        "deep": {"a": [1]},
    }
    expected = json.loads(json.dumps(attributes))
    await a.moved(a.create("run", attributes=attributes))
    attributes["text"] = "changed"
    assert (await b.head("run")).attributes == expected


async def names_may_be_any_text(harness: Harness) -> None:
    """Run ids, mail keys and kinds, tenants, digests."""
    a, b = await coordinators(harness, 2)
    names = [
        "'; DROP TABLE runs; --",
        "a/b?c=d#e",
        "日本語 🚂",
        " ",
        "{a,b}",
        '"',
        "\\N",
        "NULL",
        "x" * 200,
        "a\nb\tc",
    ]
    await a.moved(*(a.create(name, tenant=name, digest=name) for name in names))
    heads = await b.store.log.heads(names)
    assert sorted(heads) == sorted(names)
    for name in names:
        assert (heads[name].tenant, heads[name].digest) == (name, name)
        assert await b.store.mailbox.post(name, name, name, b"{}") == 1
        mail = await a.store.mailbox.find(name, name)
        assert mail is not None
        assert (mail.key, mail.kind) == (name, name)
    assert set(await b.store.mailbox.unread(a.number)) == set(names)
    await a.moved(*(a.park(name, 1, folded=1, wake_at=1) for name in names))
    assert sorted(head.id for head in await b.claim(*names)) == sorted(names)


async def text_that_no_database_holds_is_refused(harness: Harness) -> None:
    """By name, and the store works on."""
    a = await coordinator(harness)
    await a.moved(a.create("run"))
    for text in ("a\x00b", "\ud800", "\udfff after"):
        await raises(InvalidValue, a.store.mailbox.post("run", text, "signal", b"{}"))
        await raises(InvalidValue, a.store.mailbox.post("run", "key", text, b"{}"))
        await raises(InvalidValue, a.store.mailbox.post(text, "key", "signal", b"{}"))
    assert await a.post("run", "key") == 1


CASES = (
    bodies_come_back_byte_for_byte,
    bodies_of_a_batch_are_not_mixed_up,
    mail_comes_back_byte_for_byte,
    an_event_keeps_its_other_fields,
    attributes_come_back_as_values,
    names_may_be_any_text,
    text_that_no_database_holds_is_refused,
)
