"""The verbs on runs, as a coordinator offers them (`ports.runs.Runs`)."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from pointsman.coordinator.driving import mail as mails
from pointsman.coordinator.driving import redriving
from pointsman.coordinator.driving.driver import Exit
from pointsman.coordinator.owning.roster import result_of
from pointsman.coordinator.reading import PAGE, PAGE_BYTES, corrupt, first_damage, head_of, last_event, view_events
from pointsman.coordinator.service import Coordinator
from pointsman.coordinator.settings import CoordinatorSettings
from pointsman.kernel import events as ev
from pointsman.kernel.errors import (
    CorruptLog,
    Draining,
    DuplicateMail,
    InvalidValue,
    NoSuchSequence,
    NotQuarantined,
    RunConflict,
    RunEnded,
    UnknownEvent,
    UnknownWorkflow,
)
from pointsman.kernel.values import VALUE_BYTES_MAX, decode, digest, encode
from pointsman.ports.event_log import ENDED_STATUSES, Head, NewRun, RunFilter
from pointsman.ports.runs import Accepted, EventView, Redrive, Redriven, RunView, Started, StartRun, StateView
from pointsman.workflows.triggers import CRASHED

logger = logging.getLogger("pointsman.coordinator")

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~@-]{0,127}")
HEARTBEAT_S = 15.0
FINAL = {cls.__name__ for cls in ev.TERMINAL} - {"RunFailed"}
"""Nothing follows these; a failed run may have been redriven."""


class CoordinatorRuns:
    """Implements `ports.runs.Runs` for one coordinator."""

    def __init__(self, coordinator: Coordinator, *, bytes_max: int = VALUE_BYTES_MAX) -> None:
        self._coordinator = coordinator
        self._store = coordinator.store
        self._bytes_max = bytes_max

    # -- starting -------------------------------------------------------------------------------------------------

    async def start(self, request: StartRun) -> Started:
        coordinator = self._coordinator
        workflow = coordinator.directory.workflow(request.workflow, request.version)
        if workflow is None:
            wanted = request.workflow + (f" v{request.version}" if request.version is not None else "")
            known = sorted(f"{d.workflow} v{d.version}" for d in coordinator.directory.definitions())
            raise UnknownWorkflow(f"no workflow {wanted!r} here; there are {', '.join(known) or 'none'}")
        await coordinator.modes.shedding.check(workflow.name, request.id)
        data = encode(decode(request.input, bytes_max=self._bytes_max), bytes_max=self._bytes_max)
        workflow.signature.check_input(data)
        if workflow.begins_with:
            coordinator.directory.check_event(workflow.begins_with, data, unless=CRASHED)
        _check_attributes(request.attributes, coordinator.settings)
        run = coordinator.ids.run_id() if request.id is None else _checked(request.id)
        started, tail = ev.with_input(
            ev.RunStarted, data, workflow=workflow.name, workflow_version=workflow.version,
            seed=coordinator.ids.seed(), tenant=request.tenant, budget=request.budget or workflow.budget,
        )  # fmt: skip
        new_run = NewRun(
            workflow=workflow.name, version=workflow.version, build=workflow.build, bucket=self._store.bucket(),
            digest=digest(data), tenant=request.tenant, attributes=request.attributes,
        )  # fmt: skip
        over = await coordinator.roster.create(run, workflow, started, data, ev.encode_event(started, tail), new_run)
        if over is not Exit.EXISTS:
            coordinator.stats.runs_started += 1
            return Started(await self._seen(run), created=True)
        view = await self.get(run)
        head = view.head
        same = (head.workflow, head.digest, head.tenant) == (workflow.name, new_run.digest, request.tenant)
        if not same or (request.version is not None and head.version != request.version):
            raise RunConflict(
                f"run {run!r} exists, with workflow {head.workflow} v{head.version} and another input or tenant: "
                "use a new id or key, or send the same input"
            )
        return Started(view, created=False)

    # -- reading --------------------------------------------------------------------------------------------------

    async def get(self, run: str) -> RunView:
        return await self._told(await self._seen(run))

    async def _seen(self, run: str) -> RunView:
        known = self._coordinator.roster.view(run)
        if known is not None:
            return known
        head = await head_of(self._store.log, run)
        if head.status in ("stopped", "quarantined"):
            return RunView(head, failure=await self._why_stopped(head))
        if head.status not in ENDED_STATUSES:
            return RunView(head)
        try:
            return RunView(head, *result_of(await last_event(self._store.log, head)))
        except (CorruptLog, UnknownEvent) as error:
            return RunView(head, failure=ev.Failure(error.code, str(error), retryable=False))

    async def _told(self, view: RunView) -> RunView:
        """The same, and whether it is stranded: the others are asked about only where this one can't drive it."""
        head = view.head
        known_here = self._coordinator.directory.workflow(head.workflow, head.version)
        if head.status not in ("running", "parked") or known_here is not None:
            return view
        for member in await self._store.liveness.members():
            if any((one.workflow, one.version) == (head.workflow, head.version) for one in member.definitions):
                return view
        needed = f"{head.workflow} v{head.version}"
        said = f"no living coordinator has {needed}: deploy that version, beside a newer one if need be, and it goes on"
        return msgspec.structs.replace(view, stranded=said)

    async def state(self, run: str) -> StateView:
        row = (await self._store.states.of([run])).get(run)
        if row is not None:
            return StateView(run, row.version, msgspec.Raw(row.value), row.sequence)
        await head_of(self._store.log, run)
        return StateView(run)

    async def _why_stopped(self, head: Head) -> ev.Failure | None:
        """By the run's last event, or by a look at its log where that does not say."""
        try:
            note = await last_event(self._store.log, head)
        except (CorruptLog, UnknownEvent):
            note = None
        if isinstance(note, ev.RunStopped):
            return ev.Failure(note.kind, note.message, retryable=True)
        damage = await first_damage(self._store.log, head)
        return None if damage is None else ev.Failure(CorruptLog.code, str(corrupt(head.id, damage)), retryable=False)

    async def wait(self, run: str, *, timeout_s: float) -> RunView:
        clock = self._store.clock
        deadline = clock.monotonic() + timeout_s
        with self._coordinator.watcher.watch(run, each=False) as watch:
            while True:
                left = deadline - clock.monotonic()
                is_patient = left > 0 and not self._coordinator.is_draining
                # What is driven here has not ended: no need to look at each of its steps.
                if not is_patient or not self._coordinator.roster.driver(run):
                    view = await self._seen(run)
                    if view.head.status in ENDED_STATUSES or not is_patient:
                        return await self._told(view)
                await watch.changed(left)

    async def list(
        self, where: RunFilter, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[Head], str | None]:
        return await self._store.log.list_runs(where, limit=limit, cursor=cursor)

    async def events(
        self, run: str, *, after: int = 0, limit: int = 1000, inputs: bool = False, bytes_max: int | None = None
    ) -> Sequence[EventView]:
        views = await view_events(
            self._store.log, run, after=after, limit=limit, inputs=inputs, bytes_max=bytes_max
        )  # fmt: skip
        if not views:
            head = await head_of(self._store.log, run)
            if after > head.sequence and head.status in ENDED_STATUSES:
                raise NoSuchSequence(
                    f"run {run} is {head.status}, and its last event is {head.sequence}: nothing comes after {after}; "
                    "ask for what comes after a smaller sequence"
                )
        return views

    async def follow(self, run: str, *, after: int = 0) -> AsyncIterator[Sequence[EventView]]:
        seen = 0
        with self._coordinator.watcher.watch(run, each=True) as watch:
            while True:
                batch = await self.events(run, after=after, limit=PAGE, bytes_max=PAGE_BYTES)
                if batch:
                    after = batch[-1].sequence
                    yield batch
                    if batch[-1].type in FINAL:
                        return
                    continue
                if (await self._seen(run)).head.status in ENDED_STATUSES:
                    head = (await self._store.log.heads([run]))[run]
                    if head.sequence <= after:
                        return
                    if head.sequence == seen:  # and still there are no more events than that
                        damage = await first_damage(self._store.log, head)
                        if damage is not None:
                            raise corrupt(run, damage)
                    seen = head.sequence
                    continue
                if self._coordinator.is_draining:
                    raise Draining  # what is not the end must not look like it
                if not await watch.changed(HEARTBEAT_S):
                    yield []

    # -- mail -----------------------------------------------------------------------------------------------------

    async def signal(self, run: str, name: str, payload: bytes, *, key: str) -> Accepted:
        canonical = encode(decode(payload, bytes_max=self._bytes_max), bytes_max=self._bytes_max)
        body = mails.encode(mails.SignalMail(name, msgspec.Raw(canonical)))
        return await self._post(run, mails.signal_key(key), mails.SIGNAL, body)

    async def cancel(self, run: str, *, reason: str = "") -> Accepted:
        encode(reason)
        try:
            return await self._post(run, mails.CANCEL_KEY, mails.CANCEL, mails.encode(mails.CancelMail(reason)))
        except DuplicateMail:
            return Accepted(run, mails.CANCEL_KEY, repeated=True)

    async def release(self, run: str) -> RunView:
        if not await self._store.ownership.release(run):
            view = await self.get(run)
            raise NotQuarantined(
                f"run {run} is {view.head.status}, not quarantined: there is nothing to release it from"
            )
        logger.info("run %s is released from quarantine", run)
        self._coordinator.hint(run)
        return await self.get(run)

    # -- dead letters ---------------------------------------------------------------------------------------------

    async def redrive(self, wish: Redrive) -> Redriven:
        encode([wish.by, wish.reason])
        crew = self._coordinator.roster.crew
        if crew is None or self._coordinator.is_draining:
            raise Draining
        return await redriving.redrive(crew, wish)

    async def redrive_plan(self, run: str) -> Redriven:
        return await redriving.look(self._store.log, run)

    async def _post(self, run: str, key: str, kind: str, body: bytes) -> Accepted:
        try:
            await self._store.mailbox.post(run, key, kind, body)
        except DuplicateMail:
            before = await self._store.mailbox.find(run, key)
            if before is None or before.body != body:
                raise
            return Accepted(run, key, repeated=True)
        except RunEnded as error:
            head = (await self._store.log.heads([run])).get(run)
            how = f" ({head.status})" if head is not None else ""
            raise RunEnded(
                f"run {run} has ended{how} and takes no more: this came too late, and is not recorded"
            ) from error
        self._coordinator.hint(run)
        return Accepted(run, key)


def _check_attributes(attributes: Mapping[str, Any], settings: CoordinatorSettings) -> None:
    """Raises: InvalidValue (too many, a key's length, not to be stored faithfully), ValueTooLarge."""
    if len(attributes) > settings.attributes_max:
        raise InvalidValue(f"{len(attributes)} attributes; the limit is {settings.attributes_max} (attributes_max)")
    if not all(1 <= len(key) <= settings.attribute_key_chars_max for key in attributes):
        longest = settings.attribute_key_chars_max
        raise InvalidValue(f"an attribute's key has 1 to {longest} characters (attribute_key_chars_max)")
    encode(dict(attributes), bytes_max=settings.attributes_bytes_max)


def _checked(run: str) -> str:
    if not RUN_ID.fullmatch(run):
        raise InvalidValue(f"{run!r} can't be a run id: 1–128 of A–Z a–z 0–9 . _ : ~ @ -, a letter or digit first")
    return run
