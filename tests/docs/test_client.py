"""The page on the client: its app is served, and its programs run against it, in order."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from pointsman.client.patience import Patience
from pointsman.client.verbs import Verbs
from pointsman.node.service import Node, NodeSettings
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from tests.unit.client.conftest import in_thread

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "client.md").read_text()
ADDRESS = "http://127.0.0.1:7777"


def test_the_programs_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    (source,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    (tmp_path / "desk.py").write_text(source)
    module = ModuleType("desk")
    sys.modules["desk"] = module
    try:
        exec(compile(source, "desk.py", "exec"), module.__dict__)  # noqa: S102  that is the test
    finally:
        del sys.modules["desk"]

    async def serve(up: Callable[[str], None], down: asyncio.Event) -> None:
        node = Node(module.app, MemoryStore(MemoryDatabase()), NodeSettings())
        await node.start()
        up(f"http://{node.address}")
        await down.wait()
        await node.stop()

    said: list[str] = []
    with in_thread(serve) as url:
        for program in re.findall(r"^```py\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
            done = subprocess.run(
                [sys.executable, "-c", program.replace(ADDRESS, url)], cwd=tmp_path, capture_output=True, text=True,
                timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            said.append(done.stdout)
    assert said[0] == "billing: refunded\n"
    assert said[1] == "ticket-7 completed {'customer': 'acme', 'tier': 2}\n"
    assert said[2].startswith("1 RunStarted\n")
    assert said[2].endswith(" RunCompleted\n")
    assert said[3] == "unknown_run 404\n"


def test_every_verb_is_on_the_page() -> None:
    rows = "".join(re.findall(r"^\| (`[^|]*) \|", PAGE.split("| verb | gives |")[1].split("##")[0], re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", rows))
    assert named == {name for name in vars(Verbs) if not name.startswith("_")} | {"result", "wait", "follow", "request"}


def test_the_limits_of_the_page_are_those_of_the_client() -> None:
    patience, flat = Patience(), " ".join(PAGE.split())
    assert f"`retry_for` seconds ({patience.retry_for:g})" in flat
    assert f"`connect_for` seconds ({patience.connect_for:g})" in flat
