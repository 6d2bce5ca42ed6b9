"""Randomness that replays: derived from the seed in the run's first event, a branch path and a counter."""

from __future__ import annotations

import hashlib


def random_bytes(seed: str, label: str) -> bytes:
    """32 bytes that depend on nothing but `seed` and `label`."""
    return hashlib.sha256(f"{seed}/{label}".encode()).digest()


def random_float(seed: str, label: str) -> float:
    """A float in [0, 1), uniform over 53 bits."""
    return (int.from_bytes(random_bytes(seed, label)[:8], "big") >> 11) / 2**53


def random_uuid(seed: str, label: str) -> str:
    """A version 4 UUID as text (RFC 9562)."""
    raw = bytearray(random_bytes(seed, label)[:16])
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
