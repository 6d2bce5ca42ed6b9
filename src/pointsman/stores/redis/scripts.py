"""The scripts in `lua/`, one for each topic: the operations `mailbox.post` and `mailbox.read` are in `mailbox.lua`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Final

COMMON: Final = ("common", "heads")
"""The parts that every script begins with."""
LAST: Final = "return F[OP]()\n"


@dataclass(frozen=True)
class Script:
    """Its text, and the digest by which the server knows it."""

    text: str
    sha: str


def load() -> Mapping[str, Script]:
    """The scripts, by topic."""
    directory = resources.files(__package__ or "").joinpath("lua")
    texts = {
        file.name.removesuffix(".lua"): file.read_text("utf-8")
        for file in directory.iterdir()
        if file.name.endswith(".lua")
    }
    common = [texts.pop(name) for name in COMMON]
    return {topic: script_of(*common, text, LAST) for topic, text in texts.items()}


def script_of(*parts: str) -> Script:
    text = "\n".join(parts)
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
