"""A question, its coordinator killed, its webhook away: told again under the same id, answered at the command line.

One process on a SQLite file; that another coordinator takes over is in test_failing.py.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.test_up import WAIT_S, answer, pointsman, until

APP = f"{Path(__file__).parent / 'people_app.py'}:app"
KEY = b"k" * 32
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"

pytestmark = pytest.mark.slow


class Receiver:
    """Whom the webhook tells; away until it is told otherwise."""

    def __init__(self) -> None:
        self.status = 503
        self.seen: list[tuple[str, dict[str, Any]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                said = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
                signed = base64.b64encode(hmac.digest(KEY, said, hashlib.sha256)).decode()
                assert self.headers["webhook-signature"] == f"v1,{signed}"
                receiver.seen.append((self.headers["webhook-id"], json.loads(body)))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    it = Receiver()
    thread = threading.Thread(target=it.server.serve_forever)
    thread.start()
    yield it
    it.server.shutdown()
    it.server.server_close()
    thread.join(WAIT_S)


@contextmanager
def coordinator(path: Path, webhook: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and its URL."""
    command = [
        sys.executable, "-m", "pointsman.cli.main", "coordinator", APP, "--store", f"sqlite:///{path}", "--json",
        "--agents-private", "--webhook", webhook, "--set", "webhook_hold_ms=2000", "--set", "webhook_timeout_s=1.5",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONHASHSEED": "0", "POINTSMAN_WEBHOOK_SECRET": SECRET}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield process, f"http://{json.loads(process.stdout.readline())['address']}"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_question_and_its_notice_outlive_a_kill(tmp_path: Path, receiver: Receiver) -> None:
    path = tmp_path / "pointsman.db"
    with coordinator(path, receiver.url) as (process, url):
        assert httpx.post(f"{url}/v1/runs", json={"workflow": "approve", "id": "r", "input": 5}).status_code == 201
        until(lambda: receiver.seen, "the webhook is told, and does not take it")
        process.send_signal(signal.SIGKILL)
        process.wait()
    receiver.status = 204
    before = len(receiver.seen)
    with coordinator(path, receiver.url) as (_, url):
        [task] = answer("inbox", "ls", "--assignee", "ann", url=url)["tasks"]
        shown = httpx.get(f"{url}/v1/tasks/{task['id']}").json()
        assert (shown["proposed"], shown["output_schema"]) == (5, {"type": "integer"})
        until(lambda: len(receiver.seen) > before, "it is told again")
        assert {key for key, _ in receiver.seen} == {f"opened_{task['id']}"}
        assert receiver.seen[-1][1]["data"]["digest"] == shown["digest"]
        misplaced = {"value": 5, "by": "bob", "digest": "of-another"}
        assert httpx.post(f"{url}/v1/tasks/{task['id']}/answer", json=misplaced).json()["code"] == "answer_misplaced"
        answer("inbox", "assign", task["id"], "bob", "--by", "ann", url=url)
        answer("inbox", "answer", task["id"], "--accept", "--digest", shown["digest"], "--by", "bob", url=url)
        ended = httpx.get(f"{url}/v1/runs/r/result", params={"timeout": WAIT_S}, timeout=2 * WAIT_S)
        assert ended.json()["output"] == "accepted by bob: 5"
        late = pointsman("inbox", "refuse", task["id"], "--by", "eve", url=url)
        assert "task_answered: bob answered" in late.communicate(timeout=WAIT_S)[1]
        delivered = "pointsman_notices_delivered_total 1"
        until(lambda: delivered in httpx.get(f"{url}/metrics").text, "its delivery is counted")

        assert httpx.post(f"{url}/v1/runs", json={"workflow": "hurry", "id": "q", "input": None}).status_code == 201
        ended = httpx.get(f"{url}/v1/runs/q/result", params={"timeout": WAIT_S}, timeout=2 * WAIT_S)
        assert ended.json()["output"] == "expired"
        # By their keys: at least once, and in any order.
        kinds = ["human_task.expired", "human_task.opened", "human_task.opened"]
        until(
            lambda: sorted({key: body["type"] for key, body in receiver.seen[before:]}.values()) == kinds,
            "what expired is told too",
        )
