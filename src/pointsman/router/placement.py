"""Where a request belongs and whether it may be sent twice: read off its method, path, headers and, for a new
run, its body.

Must not know who the coordinators are. Ids, where chance is needed, come from the function given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from pointsman.router.reading import Request

RUNS = b"/v1/runs"
RUN_ID_HEADER = b"pointsman-run-id"
TENANT_HEADER = b"pointsman-tenant"
KEY_HEADER = b"idempotency-key"
COORDINATOR_HEADER = b"pointsman-coordinator"

_SAFE = frozenset((b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"))
_RUN_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:~@-]{0,127}")


class Placement(NamedTuple):
    """`key` decides the coordinator (None: any), `added` are header lines for it, the same at every try. `only`: the
    address of the one coordinator that it is for; empty: any may answer it."""

    key: bytes | None
    retryable: bool
    added: bytes
    only: bytes = b""


class _Start(msgspec.Struct):
    id: Any = None
    tenant: Any = None


_start_decoder = msgspec.json.Decoder(_Start)


def place(request: Request, new_id: Callable[[], str]) -> Placement:
    path, method = request.path, request.method
    only = request.named.get(COORDINATOR_HEADER)
    if only is not None:  # of a worker: a second one of the same does no harm
        return Placement(None, True, b"", only)
    if not path.startswith(RUNS):
        return Placement(None, method in _SAFE or KEY_HEADER in request.named, b"")
    rest = path[len(RUNS) :]
    if method == b"POST" and rest in (b"", b"/"):
        return _place_start(request, new_id)
    parts = rest.split(b"/")  # b"/id/signals/name" is "", id, signals, name
    if parts[0] or len(parts) < 2 or not parts[1]:
        return Placement(None, method in _SAFE or KEY_HEADER in request.named, b"")
    key = unquote_to_bytes(parts[1])
    if method in _SAFE or KEY_HEADER in request.named:
        return Placement(key, True, b"")
    if method == b"POST" and len(parts) == 3 and parts[2] == b"cancel":
        return Placement(key, True, b"")  # cancelling twice is cancelling
    if method == b"POST" and len(parts) == 4 and parts[2] == b"signals":
        return Placement(key, True, b"Idempotency-Key: %b\r\n" % new_id().encode())
    return Placement(key, False, b"")


def _place_start(request: Request, new_id: Callable[[], str]) -> Placement:
    """A new run gets its id here if the caller gave none: sent to a second coordinator it is the same run."""
    given = request.named.get(RUN_ID_HEADER)
    try:
        start = _start_decoder.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        start = _Start()  # the coordinator refuses it, and says why
    if start.id is not None:
        run = str(start.id).encode("utf-8", "replace")
        if not _RUN_ID.fullmatch(run):  # no run may be called so; said again in a header it could do harm
            return Placement(run, True, b"")
        if given == run:
            return Placement(run, True, b"")
        request.drop([RUN_ID_HEADER])  # the body's wins, as it does in the API
    elif given is not None:
        return Placement(given, True, b"")
    elif KEY_HEADER in request.named:
        tenant = request.named.get(TENANT_HEADER) or str(start.tenant or "default").encode("utf-8", "replace")
        digest = hashlib.sha256(tenant + b"\0" + request.named[KEY_HEADER]).hexdigest()
        run = b"idem-" + digest[:32].encode()
    else:
        run = new_id().encode()
    return Placement(run, True, b"Pointsman-Run-Id: %b\r\n" % run)
