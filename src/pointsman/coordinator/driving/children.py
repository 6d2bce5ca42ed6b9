"""Child runs: created in the statement that records their start, and cancelled before their parent's end is durable."""

from __future__ import annotations

from pointsman.coordinator.driving import mail as mails
from pointsman.coordinator.driving.crew import Crew
from pointsman.kernel import events as ev
from pointsman.kernel.checksum import beginning
from pointsman.kernel.errors import DuplicateMail, RunEnded, UnknownRun
from pointsman.kernel.state import RunState
from pointsman.kernel.values import digest
from pointsman.ports.event_log import Append, NewRun, chained


def first_append(crew: Crew, parent: RunState, child: ev.ChildStarted, data: bytes, at: int) -> Append:
    """The head and first event of a child, unowned and due at once."""
    workflow = crew.directory.workflow(child.workflow, child.workflow_version)
    started, tail = ev.with_input(
        ev.RunStarted, data, workflow=child.workflow, workflow_version=child.workflow_version, seed=crew.ids.seed(),
        tenant=parent.tenant, parent=parent.run, parent_call=child.call, budget=child.budget,
    )  # fmt: skip
    new_run = NewRun(
        workflow=child.workflow, version=child.workflow_version, build=workflow.build if workflow else "",
        bucket=crew.store.bucket(), digest=digest(data), tenant=parent.tenant, parent=parent.run,
        parent_call=child.call,
    )  # fmt: skip
    return Append(
        run=child.run, epoch=0, expected=0, nonce=crew.ids.nonce(), create=new_run, status="running", owner=None,
        events=[chained(
            beginning(child.run), 1, 0,
            type="RunStarted", version=started.VERSION, at=at, body=ev.encode_event(started, tail),
        )],
        wake_at=crew.store.clock.now(),
    )  # fmt: skip


async def cancel_children(crew: Crew, parent: RunState) -> None:
    """Cancel a run's open children, which must not outlive it."""
    for child in parent.children.values():
        try:
            body = mails.encode(mails.CancelMail(f"its parent {parent.run} has ended"))
            await crew.store.mailbox.post(child, mails.CANCEL_KEY, mails.CANCEL, body)
        except (RunEnded, UnknownRun, DuplicateMail):
            continue
