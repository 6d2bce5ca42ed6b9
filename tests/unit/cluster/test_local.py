"""A supervisor stops what it has started, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointsman.cluster import LocalCluster
from pointsman.cluster.errors import DirectoryInUse
from pointsman.cluster.locking import take_directory


async def test_a_supervisor_that_found_its_directory_taken_leaves_it_as_it_is(tmp_path: Path) -> None:
    cluster = LocalCluster("app:app", directory=tmp_path)
    processes = tmp_path / "processes.json"
    processes.write_text("{}")
    with take_directory(tmp_path, "up.lock"):
        with pytest.raises(DirectoryInUse):
            await cluster.start()
        await cluster.stop()
    assert processes.exists()
