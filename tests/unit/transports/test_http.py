"""Everything that an agent behind HTTP can do, done to it by a real server, and what the transport makes of it."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from pointsman.agents.addresses import AgentAddresses
from pointsman.agents.agent import AgentError
from pointsman.agents.context import Context
from pointsman.transports.http import HttpTransport
from tests.unit.transports.support import (
    HERE,
    Runtime,
    Seen,
    Server,
    answer,
    context,
    remote,
    response,
    says,
    serving,
)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(HERE, callback="http://127.0.0.1:7070", token="agents'", bytes_max=10_000)
    yield transport
    await transport.close()
    await transport.close()


async def failure(
    transport: HttpTransport, server: Server, at: Context | None = None, data: bytes = b"1", **card: Any
) -> AgentError:
    with pytest.raises(AgentError) as caught:
        await transport.call(remote(server.url, **card), at or context(), data)
    return caught.value


# -- the request -----------------------------------------------------------------------------------------------------


async def test_an_attempt_is_a_post_of_the_recorded_bytes_with_all_that_it_is(
    server: Server, transport: HttpTransport
) -> None:
    server.handler = answer(200, b'{"b": 2, "a": 1}')
    assert await transport.call(remote(server.url), context(seconds=5), b'{"n":  1}') == b'{"a":1,"b":2}'
    (seen,) = server.seen
    assert seen.line == "POST /agent HTTP/1.1"
    assert seen.body == b'{"n":  1}'
    said = seen.headers
    assert 4_000 < int(said.pop("pointsman-deadline")) <= 5_000
    trace = said.pop("traceparent")
    assert {name: value for name, value in said.items() if name not in ("host", "user-agent", "accept")} == {
        "content-type": "application/json",
        "content-length": "9",
        "accept-encoding": "identity",
        "idempotency-key": "r1/1/billing#1",
        "pointsman-run": "r1",
        "pointsman-call": "billing#1",
        "pointsman-attempt": "2",
        "pointsman-epoch": "3",
        "pointsman-tenant": "acme",
        "pointsman-callback": "http://127.0.0.1:7070",
        "authorization": "Bearer agents'",
    }
    version, trace_id, span_id, flags = trace.split("-")
    assert (version, len(trace_id), len(span_id), flags) == ("00", 32, 16, "01")


async def test_one_trace_spans_a_failover_and_each_attempt_is_a_span_of_its_own(
    server: Server, transport: HttpTransport
) -> None:
    server.handler = answer(200, b"{}")
    for at in (context(), context(epoch=4), context(attempt=3), context(run="r2")):
        await transport.call(remote(server.url), at, b"1")
    traces = [tuple(seen.headers["traceparent"].split("-")[1:3]) for seen in server.seen]
    assert traces[0] == traces[1]
    assert traces[2][0] == traces[0][0]
    assert len({span for _, span in traces}) == 2
    assert traces[3][0] != traces[0][0]


async def test_ids_of_any_text_go_percent_encoded(server: Server, transport: HttpTransport) -> None:
    server.handler = answer(200, b"{}")
    at = context(call="prüfen\r\nX: 1 %", idempotency_key="r1/1/prüfen\r\nX: 1 %")
    await transport.call(remote(server.url), at, b"1")
    assert server.seen[0].headers["pointsman-call"] == "pr%C3%BCfen%0D%0AX:%201%20%25"
    assert server.seen[0].headers["idempotency-key"] == "r1/1/pr%C3%BCfen%0D%0AX:%201%20%25"
    assert "x" not in server.seen[0].headers


async def test_proxies_cookies_and_credentials_of_the_environment_are_not_used(
    server: Server, transport: HttpTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server.handler = answer(200, b"{}", "Set-Cookie: a=1")
    without_token = HttpTransport(HERE, resolver=Names("127.0.0.1"))
    for url in (server.url, f"http://agent.example:{server.port}/", f"http://agent.example:{server.port}/"):
        await without_token.call(remote(url), context(), b"1")
    await without_token.close()
    assert all("authorization" not in seen.headers and "cookie" not in seen.headers for seen in server.seen)
    assert len(server.seen) == 3


async def test_large_inputs_arrive_whole(server: Server, transport: HttpTransport) -> None:
    server.handler = answer(200, b"{}")
    data = b'"' + b"x" * 3_000_000 + b'"'
    await transport.call(remote(server.url), context(), data)
    assert server.seen[0].body == data


# -- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "malformed_output"),
        (b"{", "malformed_output"),
        (b"<html>", "malformed_output"),
        (b"\xff", "malformed_output"),
        (b"NaN", "malformed_output"),
        (b'"not an object"', "invalid_output"),
        (b'{"a": "x"}', "invalid_output"),
        (b'{"a": 123456789012345678901}', "invalid_output"),
        (b'{"a\\u0000": 1}', "invalid_output"),
        (b"[" * 200 + b"]" * 200, "invalid_output"),
        (b"[" * 4_900 + b"]" * 4_900, "invalid_output"),
        (b'{"a":' + b" " * 10_000 + b"1}", "output_too_large"),
    ],
)
async def test_results_that_can_not_be_used(server: Server, transport: HttpTransport, body: bytes, kind: str) -> None:
    server.handler = answer(200, body)
    error = await failure(transport, server)
    assert error.kind == kind
    assert error.is_retryable is None  # the kind's default, or the card's


async def test_a_result_without_end_is_cut_at_the_limit(server: Server, transport: HttpTransport) -> None:
    chunk = b"2000\r\n" + b" " * 0x2000 + b"\r\n"
    written = 0

    async def handle(_seen: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(chunk)
            await writer.drain()
            written += len(chunk)

    server.handler = handle
    assert (await failure(transport, server, context(seconds=60))).kind == "output_too_large"
    assert written < 50_000_000


async def test_a_compressed_result_is_not_unpacked(server: Server, transport: HttpTransport) -> None:
    server.handler = answer(200, gzip.compress(b'{"a":1}'), "Content-Encoding: gzip")
    assert (await failure(transport, server)).kind == "malformed_output"


# -- failures that the agent states ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (300, "refused"), (301, "refused"), (304, "refused"), (307, "refused"), (400, "invalid_input"),
        (401, "refused"), (403, "refused"), (404, "refused"), (405, "refused"), (408, "overloaded"),
        (409, "refused"), (410, "refused"), (413, "context_overflow"), (418, "refused"), (422, "invalid_input"),
        (425, "overloaded"), (429, "rate_limited"), (500, "exception"), (501, "exception"), (502, "exception"),
        (503, "overloaded"), (504, "exception"), (599, "exception"),
    ],
)  # fmt: skip
async def test_the_kind_of_each_status(server: Server, transport: HttpTransport, status: int, kind: str) -> None:
    server.handler = answer(status, b"")
    error = await failure(transport, server)
    assert error.kind == kind
    assert f"HTTP {status}" in str(error)
    assert error.retry_after is None


async def test_a_redirect_is_not_followed(server: Server, transport: HttpTransport) -> None:
    async with serving() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            server.handler = answer(status, b"", f"Location: {elsewhere.url}")
            assert (await failure(transport, server)).kind == "refused"
            with pytest.raises(AgentError):
                await transport.probe(server.url, 5)
        assert elsewhere.connections == 0


@pytest.mark.parametrize("status", [429, 503, 500])
@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["Retry-After: 7"], 7.0),
        (["Retry-After: Fri, 31 Dec 1999 23:59:59 GMT", "Date: Fri, 31 Dec 1999 23:59:29 GMT"], 30.0),
        (["Retry-After: Fri, 31 Dec 1999 23:59:59 GMT"], 0.0),
        (["Retry-After: 99999999999999999999"], 1e7),
        (["Retry-After: soon"], None),
        (["Retry-After: -1"], None),
    ],
)
async def test_retry_after_in_seconds_or_as_a_date(
    server: Server, transport: HttpTransport, status: int, lines: list[str], seconds: float | None
) -> None:
    server.handler = answer(status, b"", *lines)
    assert (await failure(transport, server)).retry_after == seconds


@pytest.mark.parametrize(
    ("problem", "kind", "retryable"),
    [
        ({"code": "card_declined", "detail": "no funds", "retryable": False}, "card_declined", False),
        ({"code": "context_overflow"}, "context_overflow", None),
        ({"retryable": True}, "exception", True),
        ({"code": "Not A Kind", "retryable": "yes", "detail": 7}, "exception", None),
        ({"code": "budget_exceeded"}, "exception", None),
        ({"code": "internal", "type": "urn:pointsman:problem:internal"}, "exception", None),
        ({"code": "timeout"}, "exception", None),
        ([1], "exception", None),
        ("{", "exception", None),
    ],
)
async def test_a_problem_may_name_kind_detail_and_whether_to_retry(
    server: Server, transport: HttpTransport, problem: Any, kind: str, retryable: bool | None
) -> None:
    server.handler = answer(500, json.dumps(problem).encode(), "Content-Type: application/problem+json")
    error = await failure(transport, server)
    assert (error.kind, error.is_retryable) == (kind, retryable)
    assert ("no funds" in str(error)) == (kind == "card_declined")


async def test_errors_that_are_no_problem_details_name_no_kind(server: Server, transport: HttpTransport) -> None:
    server.handler = answer(429, b'{"code": "quota", "retryable": false}', "Content-Type: application/json")
    error = await failure(transport, server)
    assert (error.kind, error.is_retryable) == ("rate_limited", None)


async def test_a_huge_problem_is_a_problem(server: Server, transport: HttpTransport) -> None:
    server.handler = answer(
        500, b'{"code": "x", "detail": "' + b"y" * 1_000_000 + b'"}', "Content-Type: application/problem+json"
    )
    error = await failure(transport, server)
    assert error.kind == "exception"
    assert len(str(error)) < 2_000


async def test_the_answer_counts_also_when_the_agent_did_not_read_the_request(transport: HttpTransport) -> None:
    """Closing with unread bytes resets a connection; what was said before that is read first."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(413, b"", "Connection: close"))
        await writer.drain()
        writer.write_eof()
        await reader.read()
        writer.close()
        closed.set()

    closed = asyncio.Event()
    listening = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=2**16)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    with pytest.raises(AgentError) as caught:
        await transport.call(remote(url), context(), b"1" * 2_000_000)
    assert caught.value.kind == "context_overflow"
    await closed.wait()
    listening.close()
    await listening.wait_closed()


# -- connections that fail -------------------------------------------------------------------------------------------


async def test_nobody_listens(transport: HttpTransport) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(AgentError) as caught:
            await transport.call(remote(url), context(), b"1")
    assert (caught.value.kind, caught.value.is_retryable) == ("unreachable", None)


async def test_a_server_that_takes_no_connection_is_unreachable_and_not_slow() -> None:
    """Its queue of connections is full, so that the operating system answers no more of them."""
    transport = HttpTransport(HERE, connect_timeout_s=0.2)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        with pytest.raises(AgentError) as caught:
            async with asyncio.timeout(10):
                await transport.call(remote(url), context(seconds=60), b"1")
        assert caught.value.kind == "unreachable"
        with pytest.raises(AgentError) as caught:
            await transport.call(remote(url), context(seconds=0.05), b"1")
        assert caught.value.kind == "unreachable"
    await transport.close()


@pytest.mark.parametrize(
    "bytes_sent",
    [b"", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"],
)
async def test_a_connection_that_breaks_after_the_request(
    server: Server, transport: HttpTransport, bytes_sent: bytes
) -> None:
    server.handler = says(bytes_sent)
    assert (await failure(transport, server)).kind == "connection_lost"
    assert len(server.seen) == 1


async def test_what_is_not_http(server: Server, transport: HttpTransport) -> None:
    server.handler = says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    assert (await failure(transport, server)).kind == "malformed_output"


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", b"HTTP/1.1 500 X\r\n"])
async def test_silence_ends_at_the_deadline(server: Server, transport: HttpTransport, sent: bytes) -> None:
    server.handler = says(sent, end=False)
    assert (await failure(transport, server, context(seconds=0.2))).kind == "timeout"


async def test_cancelling_is_not_swallowed(server: Server, transport: HttpTransport) -> None:
    server.handler = says(end=False)
    attempt = asyncio.create_task(transport.call(remote(server.url), context(), b"1"))
    await server.accepted.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


async def test_a_kept_connection_that_its_server_closed_costs_no_attempt(
    server: Server, transport: HttpTransport
) -> None:
    async def once(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if len([other for other in server.seen if other.connection == seen.connection]) > 1:
            raise ConnectionError  # as a server that closed it just when the request came
        writer.write(response(200, b"{}"))

    server.handler = once
    agent = remote(server.url)
    assert await transport.call(agent, context(), b"1") == b"{}"
    assert await transport.call(agent, context(), b"2") == b"{}"
    assert [(seen.body, seen.connection) for seen in server.seen] == [(b"1", 1), (b"2", 1), (b"2", 2)]
    assert server.seen[1].headers["pointsman-attempt"] == server.seen[2].headers["pointsman-attempt"]


async def test_an_agent_that_is_not_idempotent_is_never_asked_twice(server: Server, transport: HttpTransport) -> None:
    server.handler = answer(200, b"{}")
    agent = remote(server.url, idempotent=False)
    await transport.call(agent, context(), b"1")
    await transport.call(agent, context(), b"2")
    assert [seen.connection for seen in server.seen] == [1, 2]
    server.handler = says(b"")
    assert (await failure(transport, server, idempotent=False)).kind == "connection_lost"
    assert len(server.seen) == 3


# -- addresses -------------------------------------------------------------------------------------------------------


class Names(AbstractResolver):
    """Resolves any name to what the test says next."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = self.answers.pop(0)
        if found is None:
            raise OSError(None, "no such name")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in found.split()
        ]

    async def close(self) -> None: ...


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "localhost"])
async def test_no_spelling_of_a_forbidden_address_is_connected_to(server: Server, host: str) -> None:
    transport = HttpTransport(AgentAddresses())
    for ask in (
        transport.call(remote(f"http://{host}:{server.port}/"), context(), b"1"),
        transport.probe(f"http://{host}:{server.port}/", 5),
    ):
        with pytest.raises(AgentError) as caught:
            await ask
        assert (caught.value.kind, caught.value.is_retryable) == ("unreachable", False)
    assert server.connections == 0
    await transport.close()


async def test_a_name_counts_by_what_it_resolves_to_now(server: Server) -> None:
    """DNS rebinding: allowed when it was looked at, another address when it is used."""
    transport = HttpTransport(HERE, resolver=Names("127.0.0.1", "127.0.0.2", "127.0.0.2 127.0.0.1"))
    agent = remote(f"http://agent.example:{server.port}/", idempotent=False)
    server.handler = answer(200, b"{}")
    assert await transport.call(agent, context(), b"1") == b"{}"
    with pytest.raises(AgentError, match=r"127\.0\.0\.2 is loopback: agents may be there only if") as caught:
        await transport.call(agent, context(), b"2")
    assert (caught.value.kind, caught.value.is_retryable) == ("unreachable", False)
    assert await transport.call(agent, context(), b"3") == b"{}"  # of two addresses the one that is allowed
    assert [seen.body for seen in server.seen] == [b"1", b"3"]
    await transport.close()


async def test_a_name_that_nobody_knows() -> None:
    transport = HttpTransport(HERE, resolver=Names(None))
    with pytest.raises(AgentError) as caught:
        await transport.call(remote("http://agent.example/"), context(), b"1")
    assert (caught.value.kind, caught.value.is_retryable) == ("unreachable", None)
    await transport.close()


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http://[", "http://a:99999/", "http://127.0.0.1:1/#a"]
)
async def test_urls_that_lead_nowhere(transport: HttpTransport, url: str) -> None:
    with pytest.raises(AgentError) as caught:
        await transport.call(remote(url), context(), b"1")
    assert (caught.value.kind, caught.value.is_retryable) == ("unreachable", False)


async def test_messages_do_not_show_the_secrets_of_a_url(transport: HttpTransport) -> None:
    with pytest.raises(AgentError) as caught:
        await transport.call(remote("http://127.0.0.1:1/secret?token=secret"), context(), b"1")
    assert "secret" not in str(caught.value)


# -- spending --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 500])
async def test_what_was_spent_counts_whatever_came_of_it(server: Server, transport: HttpTransport, status: int) -> None:
    server.handler = answer(status, b"{}", 'Pointsman-Spent: {"usd":0.01,"tokens":12}')
    runtime = Runtime()
    try:
        await transport.call(remote(server.url), context(runtime=runtime), b"1")
    except AgentError as error:
        assert status == 500 and error.kind == "exception"  # noqa: PT017, PT018
    assert [(amount.usd_micros, amount.tokens) for amount in runtime.spent] == [(10_000, 12)]


@pytest.mark.parametrize("said", ["{", "1", '{"usd":-1}', '{"usd":1e300}', '{"tokens":1.5}', '{"eur":1}'])
async def test_spending_that_can_not_be_read_is_logged_and_the_result_stands(
    server: Server, transport: HttpTransport, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.handler = answer(200, b"{}", f"Pointsman-Spent: {said}")
    runtime = Runtime()
    assert await transport.call(remote(server.url), context(runtime=runtime), b"1") == b"{}"
    assert runtime.spent == []
    assert "Pointsman-Spent can't be read" in caplog.text


# -- health ----------------------------------------------------------------------------------------------------------


async def test_health_is_any_2xx(server: Server, transport: HttpTransport) -> None:
    for status in (200, 204, 299):
        server.handler = answer(status)
        await transport.probe(server.url, 5)
    assert server.seen[0].line == "GET /agent HTTP/1.1"
    assert "pointsman-callback" not in server.seen[0].headers
    for status, kind in ((404, "refused"), (500, "exception"), (503, "overloaded")):
        server.handler = answer(status)
        with pytest.raises(AgentError) as caught:
            await transport.probe(server.url, 5)
        assert caught.value.kind == kind


async def test_health_that_does_not_answer(server: Server, transport: HttpTransport) -> None:
    server.handler = says(end=False)
    with pytest.raises(AgentError) as caught:
        await transport.probe(server.url, 0.1)
    assert caught.value.kind == "timeout"


# -- events ----------------------------------------------------------------------------------------------------------

OUTCOME = "Content-Type: application/vnd.pointsman.outcome.v1+json"


async def test_an_outcome_has_a_result_and_events(server: Server, transport: HttpTransport) -> None:
    server.handler = answer(
        200, b'{"result": {"a": 1}, "emitted": [{"event": "x.y", "data": {"b": 2,"a":1}}]}', OUTCOME
    )
    runtime = Runtime()
    assert await transport.call(remote(server.url), context(runtime=runtime), b"1") == b'{"a":1}'
    assert [(emission.event, bytes(emission.data)) for emission in runtime.emitted] == [("x.y", b'{"a":1,"b":2}')]


async def test_the_same_body_as_json_is_a_result(server: Server, transport: HttpTransport) -> None:
    server.handler = answer(200, b'{"result": 1}', "Content-Type: application/json")
    runtime = Runtime()
    assert await transport.call(remote(server.url), context(runtime=runtime), b"1") == b'{"result":1}'
    assert runtime.emitted == ()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "malformed_output"),
        (b"[]", "invalid_output"),
        (b'{"result": {"a": 1}, "events": []}', "invalid_output"),
        (b'{"result": {"a": 1}, "emitted": [{"event": "run.failed"}]}', "invalid_output"),
        (b'{"result": {"a": 1}, "emitted": [{"event": "a", "data": "\\u0000"}]}', "invalid_output"),
        (b'{"result": 5}', "invalid_output"),
    ],
)
async def test_an_outcome_that_is_none(server: Server, transport: HttpTransport, body: bytes, kind: str) -> None:
    server.handler = answer(200, body, OUTCOME)
    assert (await failure(transport, server)).kind == kind
