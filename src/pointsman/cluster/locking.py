"""One supervisor at a time in a directory."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from pointsman.cluster.errors import ClusterFailed, DirectoryInUse


def take_directory(directory: Path, name: str) -> IO[str]:
    """Hold the directory, made if it is not there, until the file that this gives is closed or the process ends.

    Raises:
        ClusterFailed: it can't be made or written. DirectoryInUse: another process holds it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / name).open("a")
    except OSError as error:
        raise ClusterFailed(f"{directory}: {error.strerror}; give another directory with --data") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise DirectoryInUse(
            f"another supervisor runs on {directory}: stop it, or give another directory with --data"
        ) from error
    return lock
