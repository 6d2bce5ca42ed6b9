"""A small, real `Inbox` in memory: one task of tenant `acme`, whose agent would have given a number."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pointsman.kernel import values
from pointsman.kernel.errors import AnswerMisplaced, InvalidInput, StoreUnavailable, TaskAnswered, UnknownTask
from pointsman.kernel.events import Failure
from pointsman.ports.human_tasks import HumanTask, TaskFilter
from pointsman.ports.inbox import FailedAttempt, GivenAnswer, Handover, TaskAccepted, TaskView

NOW_MS = 1_767_225_600_007
TIMEOUT = Failure("timeout", "no result within 2 s")
TASK = "-_Ab9"
DIGEST = "of-what-is-shown"


class MemoryInbox:
    def __init__(self) -> None:
        detail = msgspec.Raw(b'{"agent":"pricer","kind":"timeout","message":"no result within 2 s"}')
        self.row = HumanTask(
            TASK, "r", "pricer#1", "acme", "quote", "open", "How much?", detail, NOW_MS, assignee="ann"
        )
        self.given: GivenAnswer | None = None
        self.listed: list[tuple[TaskFilter, int, str | None]] = []
        self.is_down = False

    async def list(
        self, where: TaskFilter, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[HumanTask], str | None]:
        if self.is_down:
            raise StoreUnavailable
        self.listed.append((where, limit, cursor))
        return [self.row], "next"

    async def get(self, task: str, *, tenant: str | None = None) -> TaskView:
        self._check(task, tenant)
        attempts = [FailedAttempt(1, "pricer", TIMEOUT, NOW_MS)]
        schema = {"type": "integer"}
        return TaskView(
            self.row, DIGEST, "pricer", schema, msgspec.Raw(b'{"n": 1}'), attempts, answer=self.given,
            expires_at=NOW_MS + 1_000, escalate_at=NOW_MS + 500, escalate_to="leads",
            escalations=[Handover("leads", NOW_MS + 500), Handover("board", NOW_MS + 800)],
            handovers=[Handover("ann", NOW_MS, "bob")],
        )  # fmt: skip

    async def answer(
        self, task: str, value: bytes, *, by: str, digest: str | None = None, tenant: str | None = None
    ) -> TaskAccepted:
        self._check(task, tenant, digest)
        if not isinstance(values.decode(value), int):
            raise InvalidInput("the result of pricer: Input should be a valid integer")
        return self._give(GivenAnswer(by, NOW_MS, msgspec.Raw(value)))

    async def refuse(
        self, task: str, *, reason: str, by: str, digest: str | None = None, tenant: str | None = None
    ) -> TaskAccepted:
        self._check(task, tenant, digest)
        return self._give(GivenAnswer(by, NOW_MS, failure=Failure("not_answered", reason, retryable=False)))

    async def assign(self, task: str, assignee: str, *, by: str, tenant: str | None = None) -> TaskAccepted:
        self._check(task, tenant)
        self.row = msgspec.structs.replace(self.row, assignee=assignee)
        return TaskAccepted(self.row.id, self.row.run)

    def _give(self, given: GivenAnswer) -> TaskAccepted:
        encode = msgspec.json.encode
        if self.given is not None and encode(self.given) != encode(given):
            raise TaskAnswered(f"{self.given.by} was first")
        repeated, self.given = self.given is not None, given
        return TaskAccepted(self.row.id, self.row.run, repeated)

    def _check(self, task: str, tenant: str | None, digest: str | None = DIGEST) -> None:
        if task != self.row.id or tenant not in (None, self.row.tenant):
            raise UnknownTask
        if digest != DIGEST:
            raise AnswerMisplaced
