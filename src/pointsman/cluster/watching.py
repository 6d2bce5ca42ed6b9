"""Which files of a program have changed, by looking at them again and again. Must not know what is done about it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

NOT_OURS = frozenset({"__pycache__", "node_modules", "site-packages"})
"""Folders that hold other people's code, or none. So do hidden ones, and environments (by their `pyvenv.cfg`)."""

Seen = dict[Path, tuple[int, int]]


class FileWatch:
    """Python files below `roots`, and every file of `more` (files, or folders with all that is in them). What this user
    may not read is not there. (`os.path` takes it so; of `Path`, `exists` and `is_dir` raise.)"""

    def __init__(self, roots: Sequence[Path], more: Sequence[Path] = ()) -> None:
        self._roots = roots
        self._more = more
        self._seen = self._scan()

    def changed(self) -> list[Path]:
        """What was written, made or deleted since the last look."""
        before, self._seen = self._seen, self._scan()
        return sorted(path for path in before.keys() | self._seen.keys() if before.get(path) != self._seen.get(path))

    def _scan(self) -> Seen:
        seen: Seen = {}
        for path in self._files():
            try:
                state = path.stat()
            except OSError:  # gone since it was listed, or a link into nowhere
                continue
            seen[path] = (state.st_mtime_ns, state.st_size)
        return seen

    def _files(self) -> Iterator[Path]:
        for root in self._roots:
            yield from (path for path in _below(root) if path.suffix == ".py")
        for path in self._more:
            yield from _below(path) if os.path.isdir(path) else [path]  # noqa: PTH112  see FileWatch


def _below(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = [
            name for name in folders
            if name not in NOT_OURS and not name.startswith(".") and not _is_environment(here / name)
        ]  # fmt: skip
        yield from (here / name for name in files if not name.startswith("."))


def _is_environment(folder: Path) -> bool:
    return os.path.exists(folder / "pyvenv.cfg")  # noqa: PTH110  see FileWatch
