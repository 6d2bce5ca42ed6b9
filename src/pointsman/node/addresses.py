"""Addresses of this machine: `host:port` as text, and ports that are free."""

from __future__ import annotations

import socket

from pointsman.kernel.errors import PointsmanError


class AddressInUse(PointsmanError):
    """Another process listens on this address: give another --port, or 0 for any free one."""

    code = "address_in_use"


def free_port(host: str, wanted: int = 0) -> int:
    """`wanted` if nobody listens there, any free one for 0. Raises: AddressInUse."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), wanted))
        except OSError as error:
            raise AddressInUse(
                f"{join_address(host, wanted)}: {error.strerror or error}; give another --port, or 0 for any free one"
            ) from error
        return int(probe.getsockname()[1])


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
