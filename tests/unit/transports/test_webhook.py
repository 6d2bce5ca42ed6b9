"""Webhooks: signed as Standard Webhooks has it, sent where agents may be, and nowhere else."""

from __future__ import annotations

import base64

import pytest

from pointsman.agents.addresses import AddressRefused, AgentAddresses
from pointsman.ports.telling import NotTold
from pointsman.transports.webhook import InvalidSecret, WebhookTeller, read_secrets, signature
from tests.unit.transports.support import HERE, Handler, answer, says, serving

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"x" * 64).decode()


def test_the_signature_is_that_of_the_reference() -> None:
    """The test vector of Standard Webhooks."""
    (key,) = read_secrets(SECRET)
    said = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert said == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "text",
    ["", " ", SECRET.removeprefix("whsec_"), "whsec_", "whsec_!!!!", "whsec_" + base64.b64encode(b"x" * 23).decode(),
     "whsec_" + base64.b64encode(b"x" * 65).decode(), f"{SECRET} whsec_c2hvcnQ="],
)  # fmt: skip
def test_a_secret_that_is_none_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidSecret, match="whsec_ and base64 of 24") as refused:
        read_secrets(text)
    assert "MfKQ9r8" not in str(refused.value)


async def test_a_try_has_the_notices_id_its_own_time_and_a_signature_of_each_secret() -> None:
    keys = read_secrets(f"{SECRET}  {OTHER}")
    times = iter([1_700_000_000.9, 1_700_000_060.0])
    async with serving(answer(204)) as server:
        teller = WebhookTeller(server.url, keys, HERE, now=lambda: next(times))
        for _ in range(2):
            await teller.tell("opened_t1", b'{"type":"human_task.opened"}')
        await teller.close()
        await teller.close()
    for seen, timestamp in zip(server.seen, (1_700_000_000, 1_700_000_060), strict=True):
        assert seen.line == "POST /agent HTTP/1.1"
        assert seen.body == b'{"type":"human_task.opened"}'
        assert seen.headers["content-type"] == "application/json"
        assert (seen.headers["webhook-id"], seen.headers["webhook-timestamp"]) == ("opened_t1", str(timestamp))
        expected = [signature(key, "opened_t1", timestamp, seen.body) for key in keys]
        assert seen.headers["webhook-signature"].split(" ") == expected


@pytest.mark.parametrize(
    ("handler", "why", "is_final"),
    [
        (answer(500), "it answered 500", False),
        (answer(302, b"", "Location: http://127.0.0.1/"), "it answered 302", False),
        (answer(410), "it answered 410", True),
        (says(b"HTTP/1.1 2"), "127.0.0.1", False),
        (says(end=False), "no result in time", False),
    ],
)
async def test_what_is_not_taken_is_said_why(handler: Handler, why: str, is_final: bool) -> None:
    async with serving(handler) as server:
        teller = WebhookTeller(server.url, read_secrets(SECRET), HERE, timeout_s=0.5)
        with pytest.raises(NotTold, match=why) as failed:
            await teller.tell("n", b"{}")
        await teller.close()
    assert failed.value.is_final == is_final
    assert len(server.seen) == 1


async def test_it_goes_where_agents_may_be_and_nowhere_else() -> None:
    for url in ("http://127.0.0.1/", "http://10.0.0.1/", "ftp://example.org/", "http://a:b@example.org/", "nonsense"):
        with pytest.raises(AddressRefused):
            WebhookTeller(url, read_secrets(SECRET), AgentAddresses())
    async with serving(answer(204)) as server:  # allowed by its name; what that resolves to is not
        url = f"http://somewhere.localhost:{server.port}/"
        with pytest.raises(AddressRefused):
            WebhookTeller(url, read_secrets(SECRET), AgentAddresses(allow=("*.localhost",)))
    assert server.seen == []


async def test_nobody_there_is_said_so() -> None:
    async with serving() as server:
        port = server.port
    teller = WebhookTeller(f"http://127.0.0.1:{port}/", read_secrets(SECRET), HERE)
    with pytest.raises(NotTold):
        await teller.tell("n", b"{}")
    await teller.close()
