"""A site whose PostgreSQL keeps its tables on a disk of a few megabytes. Only root can mount one."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Final

from pointsman.kernel.errors import PointsmanError
from pointsman.testing.chaos.own import OwnSite, embedded

DISK_MB: Final = 96
TABLESPACE: Final = "small"


class MountFailed(PointsmanError):
    """This user can't mount a file system here: run as root, outside of a container that forbids it."""

    code = "mount_failed"


class SmallDiskSite(OwnSite):
    """All tables and indexes are in a tablespace on a tmpfs; PostgreSQL's log and catalogs are not."""

    def __init__(self, directory: Path) -> None:
        self._disk = directory / "disk"
        self._ballast = self._disk / "ballast"
        self._log_read = 0
        self._server = embedded(directory, {"default_tablespace": TABLESPACE})
        super().__init__(directory, database=self._server)

    async def start(self) -> None:
        """Raises: MountFailed, and what `OwnSite.start` raises."""
        self._disk.mkdir()
        await asyncio.to_thread(_mount, self._disk)
        self.dsn = await asyncio.to_thread(self._server.start)
        tables = self._disk / "tables"
        tables.mkdir(mode=0o700)
        owner = self._server.directory.stat()
        os.chown(tables, owner.st_uid, owner.st_gid)
        await self.query(f"CREATE TABLESPACE {TABLESPACE} LOCATION '{tables}'")
        await super().start()

    async def stop(self) -> None:
        try:
            await super().stop()
        finally:
            await asyncio.to_thread(_unmount, self._disk)

    def fill(self) -> None:
        """No space is left."""
        disk = os.statvfs(self._disk)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize)

    def free(self) -> None:
        self._ballast.unlink()

    def refusals(self) -> int:
        """How many times the server said that the disk is full, since this was asked last."""
        said = self._server.log.read_text(errors="replace")
        new, self._log_read = said[self._log_read :], len(said)
        return new.count("No space left on device")


def _mount(path: Path) -> None:
    said = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0755", "tmpfs", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if said.returncode != 0:
        raise MountFailed(f"{MountFailed.__doc__} {said.stderr.strip()}")


def _unmount(path: Path) -> None:
    subprocess.run(["umount", path], capture_output=True, check=False)
