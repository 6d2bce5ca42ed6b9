"""`pointsman openapi`: the API as an OpenAPI document, without a coordinator."""

from __future__ import annotations

import sys

import msgspec

from pointsman.api.app import declared
from pointsman.api.openapi import describe
from pointsman.api.settings import ApiSettings
from pointsman.cli.exits import guarded


@guarded
def openapi() -> None:
    """Print the HTTP API as an OpenAPI 3.1 document.

    For generators and gateways. Limits stand at their defaults.
    """
    document = msgspec.json.encode(describe(declared(), ApiSettings()))
    sys.stdout.write(msgspec.json.format(document, indent=2).decode() + "\n")
