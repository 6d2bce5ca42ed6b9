"""Mutants of human tasks: the list, and the appends that write it."""

import json

import msgspec

from pointsman.kernel.errors import InvalidValue
from pointsman.ports.event_log import Outcome
from pointsman.ports.human_tasks import TaskFilter
from pointsman.stores.memory import event_log
from pointsman.stores.memory.event_log import MemoryEventLog
from pointsman.stores.memory.human_tasks import MemoryHumanTasks


class TasksNeverClose(MemoryEventLog):
    """A task that is there stays as it is: ON CONFLICT DO NOTHING."""

    caught_by = (
        "human_tasks.a_task_is_opened_and_closed_by_appends",
        "human_tasks.only_another_status_changes_a_task",
        "human_tasks.several_tasks_in_one_append",
        "human_tasks.tasks_come_with_families_too",
    )

    def _write_rows(self, row, item):
        known = dict(self._database.tasks)
        super()._write_rows(row, item)
        self._database.tasks.update(known)


class TasksOverwritten(MemoryEventLog):
    """The last append writes the whole row."""

    caught_by = (
        "human_tasks.a_task_is_opened_and_closed_by_appends",
        "human_tasks.several_tasks_in_one_append",
    )

    def _write_rows(self, row, item):
        for task in item.tasks:
            self._database.tasks.pop(task.id, None)
        super()._write_rows(row, item)


class ClosedAgain(MemoryEventLog):
    """What is said again moves the moment of closing."""

    caught_by = ("human_tasks.only_another_status_changes_a_task",)

    def _write_rows(self, row, item):
        super()._write_rows(row, item)
        for said in item.tasks:
            task = self._database.tasks[said.id]
            if said.status != "open":
                self._database.tasks[said.id] = msgspec.structs.replace(task, closed_at=said.at)


class RequestedOnce(MemoryEventLog):
    """Where a task's call was requested stays what was said first."""

    caught_by = ("human_tasks.a_task_knows_where_its_call_was_requested",)

    def _write_rows(self, row, item):
        known = {task.id: self._database.tasks.get(task.id) for task in item.tasks}
        super()._write_rows(row, item)
        for key, task in known.items():
            if task is not None:
                changed = self._database.tasks[key]
                self._database.tasks[key] = msgspec.structs.replace(changed, requested=task.requested)


class RequestedIsForgotten(MemoryEventLog):
    """What does not say where a task's call was requested takes it away."""

    caught_by = ("human_tasks.a_task_knows_where_its_call_was_requested",)

    def _write_rows(self, row, item):
        super()._write_rows(row, item)
        for said in item.tasks:
            task = self._database.tasks[said.id]
            self._database.tasks[said.id] = msgspec.structs.replace(task, requested=said.requested)


class OneTaskPerAppend(MemoryEventLog):
    """The first task of an append is its only one."""

    caught_by = ("human_tasks.several_tasks_in_one_append",)

    def _write_rows(self, row, item):
        super()._write_rows(row, msgspec.structs.replace(item, tasks=item.tasks[:1]))


class TasksBesideTheFence(MemoryEventLog):
    """Rows are written whether or not the run moved."""

    caught_by = (
        "human_tasks.a_refused_append_writes_no_task",
        "reservations.a_refused_append_reserves_nothing",
        "reservations.of_two_appends_the_one_that_moved_reserves",
    )

    def _settle(self, item, settled):
        result = super()._settle(item, settled)
        row = self._database.runs.get(item.run)
        if result.outcome is not Outcome.MOVED and row is not None:
            self._write_rows(row, item)
        return result


class TasksShareAFate(MemoryEventLog):
    """One run that does not move takes its neighbours' rows with it."""

    caught_by = (
        "human_tasks.a_refused_append_writes_no_task",
        "reservations.a_refused_append_reserves_nothing",
        "human_tasks.tasks_come_with_families_too",
    )

    def _commit(self, batch):
        tasks, reservations = dict(self._database.tasks), dict(self._database.reservations)
        results = super()._commit(batch)
        if any(result.outcome is not Outcome.MOVED for result in results):
            self._database.tasks, self._database.reservations = tasks, reservations
        return results


class NoRowsInFamilies(MemoryEventLog):
    """The longer statement forgets them."""

    caught_by = (
        "human_tasks.tasks_come_with_families_too",
        "reservations.reservations_come_with_families_too",
    )

    def _commit(self, batch):
        if any(item.letter or (item.create and item.create.parent) for item in batch):
            batch = [msgspec.structs.replace(item, tasks=(), reservations=()) for item in batch]
        return super()._commit(batch)


class TasksByRun(MemoryHumanTasks):
    """In the order in which they came."""

    caught_by = ("human_tasks.the_oldest_come_first",)

    async def list(self, where, *, limit=50, cursor=None):
        await super().list(where, limit=limit, cursor=cursor)
        return list(self._database.tasks.values()), None


class TaskStatusIgnored(MemoryHumanTasks):
    """Status ignored."""

    caught_by = ("human_tasks.tasks_are_listed_by_status_tenant_and_run",)

    ignored = "status"

    async def list(self, where, *, limit=50, cursor=None):
        where = msgspec.structs.replace(where, **{self.ignored: getattr(TaskFilter(), self.ignored)})
        return await super().list(where, limit=limit, cursor=cursor)


class TaskTenantIgnored(TaskStatusIgnored):
    """Tenant ignored."""

    caught_by = (
        "human_tasks.tasks_are_listed_by_status_tenant_and_run",
        "human_tasks.names_and_filters_may_be_any_text",
    )

    ignored = "tenant"


class TaskRunIgnored(TaskStatusIgnored):
    """Run ignored."""

    caught_by = (
        "human_tasks.tasks_are_listed_by_status_tenant_and_run",
        "human_tasks.names_and_filters_may_be_any_text",
    )

    ignored = "run"


class TaskWorkflowIgnored(TaskStatusIgnored):
    """Workflow ignored."""

    caught_by = (
        "human_tasks.tasks_are_listed_by_status_tenant_and_run",
        "human_tasks.names_and_filters_may_be_any_text",
    )

    ignored = "workflow"


class TaskAssigneeIgnored(TaskStatusIgnored):
    """Assignee ignored."""

    caught_by = (
        "human_tasks.a_task_is_given_from_one_to_the_next",
        "human_tasks.names_and_filters_may_be_any_text",
    )

    ignored = "assignee"


class TasksAreNeverGivenOn(MemoryEventLog):
    """Whose a task is at first, it stays."""

    caught_by = ("human_tasks.a_task_is_given_from_one_to_the_next",)

    def _write_rows(self, row, item):
        known = {key: task.assignee for key, task in self._database.tasks.items()}
        super()._write_rows(row, item)
        for key, assignee in known.items():
            self._database.tasks[key] = msgspec.structs.replace(self._database.tasks[key], assignee=assignee)


class ClosedWhenGivenOn(MemoryEventLog):
    """What says whose a task is moves the moment of its end."""

    caught_by = ("human_tasks.a_task_is_given_from_one_to_the_next",)

    def _write_rows(self, row, item):
        super()._write_rows(row, item)
        for task in item.tasks:
            if task.assignee is not None and task.status != "open":
                self._database.tasks[task.id] = msgspec.structs.replace(
                    self._database.tasks[task.id], closed_at=task.at
                )


class TaskCursorIsATimeAlone(MemoryHumanTasks):
    """A cursor is a time."""

    caught_by = ("human_tasks.pages_are_complete_and_do_not_overlap",)

    async def list(self, where, *, limit=50, cursor=None):
        tasks, _ = await super().list(where, limit=10_000)
        rest = [task for task in tasks if cursor is None or task.opened_at > int(cursor)]
        return rest[:limit], str(rest[limit - 1].opened_at) if len(rest) > limit else None


class TaskCursorForgetsTheFilter(MemoryHumanTasks):
    """A cursor forgets the filter."""

    caught_by = ("human_tasks.pages_are_complete_and_do_not_overlap",)

    async def list(self, where, *, limit=50, cursor=None):
        return await super().list(where if cursor is None else TaskFilter(), limit=limit, cursor=cursor)


class DetailsRewritten(MemoryEventLog):
    """As a `jsonb` column does."""

    caught_by = ("human_tasks.questions_and_details_come_back_as_they_were",)

    def _write_rows(self, row, item):
        tasks = [
            msgspec.structs.replace(task, detail=json.dumps(json.loads(task.detail)).encode()) for task in item.tasks
        ]
        super()._write_rows(row, msgspec.structs.replace(item, tasks=tuple(tasks)))


class QuestionsCutShort(MemoryEventLog):
    """Questions of one line."""

    caught_by = ("human_tasks.questions_and_details_come_back_as_they_were",)

    def _write_rows(self, row, item):
        tasks = [msgspec.structs.replace(task, question=task.question.partition("\n")[0]) for task in item.tasks]
        super()._write_rows(row, msgspec.structs.replace(item, tasks=tuple(tasks)))


class AnyTaskIsTaken(MemoryEventLog):
    """What no database could hold is taken, and its neighbours are appended."""

    caught_by = (
        "human_tasks.what_no_store_can_hold_is_refused",
        "reservations.what_no_store_can_hold_is_refused",
        "notices.what_no_store_can_hold_is_refused",
    )

    async def append(self, batch, *, lane=0):
        try:
            return await super().append(batch, lane=lane)
        except InvalidValue:
            await self._session.enter()
            return self._commit(batch)


class RefusedAfterTheNeighbours(MemoryEventLog):
    """What no database could hold is found when half of the batch is written."""

    caught_by = ("human_tasks.what_no_store_can_hold_is_refused",)

    async def append(self, batch, *, lane=0):
        try:
            event_log.check_batch(batch)
        except InvalidValue:
            self._commit([item for item in batch if not item.tasks])
            raise
        return await super().append(batch, lane=lane)


class TasksTakeAnyCursor(MemoryHumanTasks):
    """The list takes any cursor."""

    caught_by = ("human_tasks.a_cursor_that_nobody_gave_is_refused",)

    async def list(self, where, *, limit=50, cursor=None):
        try:
            return await super().list(where, limit=limit, cursor=cursor)
        except InvalidValue:
            return [], None
