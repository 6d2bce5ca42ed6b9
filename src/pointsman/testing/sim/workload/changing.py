"""Code that changes while runs of it are open: three releases, deployed one after the other.

The second has a body that goes on longer (runs that reached that far are stopped where the first still runs), a body
whose bug is mended (what failed of it is redriven), and a workflow of which only a new version is left (runs of the old
one are stranded). The third brings that old version back beside the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pointsman.agents.directory import AgentDirectory
from pointsman.agents.workflow import Workflow, define_workflow, with_settings
from pointsman.kernel.run import Run
from pointsman.testing.sim.workload.agents import app, slow, steady, thinker

NAMES = ("growing", "mended", "moving")


async def _growing(run: Run, size: int) -> list[str]:
    return [str(await run.call(steady, f"grow {number}")) for number in range(1 + size)]


async def _grown(run: Run, size: int) -> list[str]:
    said = await _growing(run, size)
    await run.sleep(0.2 + 0.4 * run.random())  # long enough to be parked: any coordinator may go on
    return [*said, await run.call(steady, "and more")]


async def _buggy(run: Run, size: int) -> list[str]:
    said = await run.call(steady, "before")
    await run.sleep(0.2 * run.random())
    raise ValueError(f"a bug in the body, after {said} of {size}")


async def _mended(run: Run, size: int) -> list[str]:
    said = await run.call(steady, "before")
    await run.sleep(0.2 * run.random())
    return [said, *[str(await run.call(steady, f"after {number}")) for number in range(size)]]


async def _moving(run: Run, size: int) -> str:
    for number in range(size):
        await run.call(slow, f"the old way {number}", default="late")
        await run.sleep(0.2 * run.random())
    return str(await run.call(thinker, "at last"))


async def _moved(run: Run, size: int) -> str:
    return str(await run.call(thinker, f"the new way, {size}"))


def _workflow(name: str, version: int, function: Callable[..., object], release: int) -> Workflow:
    body = define_workflow(function, name=name, version=version, bytes_max=app.value_bytes_max)  # type: ignore[arg-type]
    return with_settings(body, release)  # all stand in one module, whose source is the build


GROWN = _workflow("growing", 1, _grown, 2)
MENDED = _workflow("mended", 1, _mended, 2)
OLD, NEW = _workflow("moving", 1, _moving, 1), _workflow("moving", 2, _moved, 2)
RELEASES: Sequence[Sequence[Workflow]] = (
    (_workflow("growing", 1, _growing, 1), _workflow("mended", 1, _buggy, 1), OLD),
    (GROWN, MENDED, NEW),
    (GROWN, MENDED, OLD, NEW),
)


def directory_of(release: Sequence[Workflow]) -> Callable[[], AgentDirectory]:
    """Gives the directory of a coordinator of this release."""
    same = [app.directory.workflow(one.workflow, one.version) for one in app.directory.definitions()]
    workflows = [*(one for one in same if isinstance(one, Workflow)), *release]
    agents = app.directory.agents()
    return lambda: AgentDirectory(agents, workflows, "generalist", bytes_max=app.value_bytes_max)
