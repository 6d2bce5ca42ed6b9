"""Bodies that mean harm: each gets a named error, none a 500, and nothing reaches the store half-checked."""

import asyncio
import time
from contextlib import suppress

import pytest

from pointsman.api.body import check_depth
from pointsman.kernel.errors import InvalidValue
from tests.unit.api.memory_runs import Bench

NEST = 10_000

VALUES = [
    (b"NaN", 422, "invalid_value"),
    (b"Infinity", 422, "invalid_value"),
    (b"1e400", 422, "invalid_value"),
    (b"1" + b"0" * 400, 422, "invalid_value"),
    (b"18446744073709551616", 422, "invalid_value"),
    (b"9007199254740993", 422, "invalid_value"),
    (b'"\\ud800"', 422, "invalid_value"),
    (b'"\\u0000"', 422, "invalid_value"),
    (b'{"\\u0000":1}', 422, "invalid_value"),
    (b'"\x00"', 400, "invalid_json"),
    (b"[" * NEST + b"]" * NEST, 422, "invalid_value"),
    (b'{"a":' * NEST + b"1" + b"}" * NEST, 422, "invalid_value"),
    (b'[{"a":' * 51 + b"1" + b"}]" * 51, 422, "invalid_value"),
    (b"'x'", 400, "invalid_json"),
    (b"[1,]", 400, "invalid_json"),
    (b"", 400, "invalid_json"),
]


@pytest.mark.parametrize(("value", "status", "code"), VALUES, ids=range(len(VALUES)))
async def test_a_value_that_no_store_holds_faithfully_is_refused(value, status, code):
    bench = Bench()
    response = await bench.client.post("/v1/runs", content=b'{"workflow":"echo","id":"a","input":' + value + b"}")
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert not bench.runs.entries
    if value:
        await bench.start("patient", id="p")
        signal = await bench.client.post("/v1/runs/p/signals/note", content=value)
        assert signal.json()["code"] == "invalid_value"
        assert not bench.runs.entries["p"].mail


@pytest.mark.parametrize("data", [b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b"\xef\xbb\xbf1"])
async def test_a_body_that_is_not_utf8_is_refused(data):
    bench = Bench()
    response = await bench.client.post("/v1/runs", content=b'{"workflow":"echo","input":' + data + b"}")
    assert response.status_code in (400, 422)
    assert response.json()["code"] in ("invalid_json", "invalid_value")
    body = b'{"workflow":' + data + b',"input":1}'
    assert (await bench.client.post("/v1/runs", content=body)).json()["code"] in (
        "invalid_json",
        "invalid_value",
        "invalid_body",
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"null", "invalid_body"),
        (b"[]", "invalid_body"),
        (b'"x"', "invalid_body"),
        (b"{}", "invalid_body"),
        (b'{"workflow":"echo"}', "invalid_body"),
        (b'{"workflow":1,"input":1}', "invalid_body"),
        (b'{"workflow":"echo","input":1,"priority":1}', "unknown_field"),
        (b'{"workflow":"echo","input":1,"Tenant":"x"}', "unknown_field"),
        (b'{"workflow":"echo","input":1,"lc":1}', "unknown_field"),
        (b'{"workflow":"echo","input":1,"version":0}', "invalid_body"),
        (b'{"workflow":"echo","input":1,"version":1.5}', "invalid_body"),
        (b'{"workflow":"echo","input":1,"version":true}', "invalid_body"),
        (b'{"workflow":"echo","input":1,"version":1' + b"0" * 400 + b"}", "invalid_body"),
        (b'{"workflow":"echo","input":1,"version":18446744073709551616}', "invalid_body"),
        (b'{"workflow":"echo","input":1,"attributes":{"a":18446744073709551616}}', "invalid_value"),
        (b'{"workflow":"echo","input":1,"attributes":{"\\u0000":1}}', "invalid_value"),
        (b'{"workflow":"echo","input":1}{"x":1}', "invalid_json"),
        (b'{"id":"a","id":"b","workflow":"echo","input":1}', "invalid_body"),
        (b'{"id":"a","\\u0069d":"b","workflow":"echo","input":1}', "invalid_body"),
        (b'{"workflow":"echo","input":1,"input":2}', "invalid_body"),
        (b'{"tenant":"a","workflow":"echo","input":{"tenant":"x"},"tenant":"b"}', "invalid_body"),
    ],
)
async def test_a_body_that_is_not_the_declared_one_is_refused(body, code):
    bench = Bench()
    response = await bench.client.post("/v1/runs", content=body)
    assert response.json()["code"] == code
    assert response.status_code == (400 if code == "invalid_json" else 422)
    assert not bench.runs.requests


async def test_field_names_inside_an_input_are_its_own():
    bench = Bench()
    data = {"id": "x", "input": {"input": "\u0069d \u00e9", "workflow": 1}, "q": '"id" "id"'}
    response = await bench.start(id="a", data=data)
    assert (response.status_code, response.json()["output"]) == (201, data)


@pytest.mark.parametrize("body", [b'{"why":"x"}', b'{"reason":1}', b"[]", b'{"reason":"a","reason":"b"}'])
async def test_a_cancels_body_is_checked_alike(body):
    bench = Bench()
    await bench.start("patient", id="a")
    assert (await bench.client.post("/v1/runs/a/cancel", content=body)).status_code == 422
    long = await bench.client.post("/v1/runs/a/cancel", json={"reason": "x" * 1001})
    assert long.json()["code"] == "invalid_body"
    nul = await bench.client.post("/v1/runs/a/cancel", content=b'{"reason":"\\u0000"}')
    assert nul.json()["code"] == "invalid_value"
    assert (await bench.client.get("/v1/runs/a")).json()["status"] == "running"


async def test_a_body_is_json_and_nothing_else():
    bench = Bench()
    body = b'{"workflow":"echo","input":1}'
    for media in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/jsonx",
        "text/json, application/json",
    ):
        response = await bench.client.post("/v1/runs", content=body, headers={"Content-Type": media})
        assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
    for encoding in ("gzip", "br", "identity, gzip"):
        response = await bench.client.post("/v1/runs", content=body, headers={"Content-Encoding": encoding})
        assert (response.status_code, response.json()["code"]) == (415, "unsupported_encoding")
    for media in ("application/json", 'Application/JSON; charset="UTF-8"'):
        response = await bench.client.post("/v1/runs", content=body, headers={"Content-Type": media})
        assert response.status_code == 201


@pytest.mark.parametrize("path", ["/v1/runs", "/v1/runs/a", "/health", "/metrics"])
async def test_a_route_that_takes_no_body_refuses_one(path):
    response = await Bench().client.request("GET", path, content=b"{}")
    assert (response.status_code, response.json()["code"]) == (400, "unexpected_body")


async def test_a_body_over_the_limit_is_refused_by_its_length_and_by_its_bytes():
    bench = Bench(body_bytes_max=1000)
    large = b'{"workflow":"echo","input":"' + b"x" * 1000 + b'"}'

    async def chunks():
        for start in range(0, len(large), 100):
            yield large[start : start + 100]

    for content in (large, chunks()):
        response = await bench.client.post("/v1/runs", content=content)
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    for length in ("1001", "9" * 30, "-1", "1e3"):
        response = await bench.client.post("/v1/runs", content=b"{}", headers={"Content-Length": length})
        assert response.json()["code"] == "body_too_large"
    just = b'{"workflow":"echo","input":"' + b"x" * (1000 - 30) + b'"}'
    assert len(just) == 1000
    assert (await bench.client.post("/v1/runs", content=just)).status_code == 201


async def test_markup_comes_back_as_json_only():
    bench = Bench()
    script = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    answers = [
        await bench.start(id="a", data=script, attributes={script: script}),
        await bench.client.get("/v1/runs/a"),
        await bench.client.get("/v1/runs/a/events"),
        await bench.client.get(f"/v1/runs?status={script}"),
        await bench.client.get(f"/v1/runs?{script}=1"),
        await bench.client.get(f"/{script}"),
        await bench.start(id=script),
        await bench.client.post("/v1/runs", json={"workflow": "echo", "input": 1, script: 1}),
    ]
    for response in answers:
        assert response.headers["content-type"] in ("application/json", "application/problem+json")
        assert response.headers["x-content-type-options"] == "nosniff"
        response.json()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_an_unknown_method_is_405_and_says_what_is_known(method):
    response = await Bench().client.request(method, "/v1/runs")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, POST"


async def test_an_unknown_path_is_404():
    for path in ("/", "/v1", "/v1/runs/", "/v1/runs/a/b", "/v1/runs/a/signals/b/c", "/docs", "/openapi.yaml"):
        response = await Bench().client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_depth_is_exact_and_strings_do_not_count():
    check_depth(b"[" * 100 + b"]" * 100, 100)
    check_depth(b"[{}" + b",[{}]" * 5000 + b"]", 100)
    check_depth(b'["' + b'[{\\"' * 5000 + b'"]', 100)
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        with pytest.raises(InvalidValue):
            check_depth(opening * 101 + b"1" + closing * 101, 100)
    with pytest.raises(InvalidValue):
        check_depth(b'[{"a":' * 51 + b"1" + b"}]" * 51, 100)


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 500_000 + b"[" * 101,
        b"[" * 1_000_000,
        b"[],{}," * 170_000,
        b'"' * 1_000_000 + b"[" * 101,
        (b"[" * 100 + b"]" * 100 + b",") * 5_000,
        b"\\" * 1_000_000 + b"[" * 101,
    ],
    ids=["escaped quotes", "open", "wide", "quotes", "deep and wide", "backslashes"],
)
def test_looking_for_depth_takes_no_hostile_time(body):
    began = time.process_time()
    with suppress(InvalidValue):
        check_depth(body, 100)
    assert time.process_time() - began < 1.0


async def test_a_client_that_goes_while_it_sends_is_nobody_to_answer():
    bench = Bench()
    sent = []
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/runs",
        "raw_path": b"/v1/runs",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-length", b"10")],
    }
    await asyncio.wait_for(bench.api(scope, receive, send), 5)
    assert sent == []
    assert bench.seen[0][2] == 499
