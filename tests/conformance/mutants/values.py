"""Mutants of what is stored: bodies, fields, names."""

import json

import msgspec

from pointsman.ports.event_log import NewEvent
from pointsman.stores.memory import MemoryDatabase
from pointsman.stores.memory.event_log import MemoryEventLog


class BodiesRewritten(MemoryEventLog):
    """As a `jsonb` column does."""

    caught_by = (
        "values.bodies_come_back_byte_for_byte",
        "values.bodies_of_a_batch_are_not_mixed_up",
    )

    def _move(self, row, item):
        def rewrite(event: NewEvent) -> NewEvent:
            try:
                body = json.dumps(json.loads(event.body)).encode()
            except ValueError:
                return event
            return msgspec.structs.replace(event, body=body)

        super()._move(row, msgspec.structs.replace(item, events=[rewrite(event) for event in item.events]))


class BodiesCutAtTheTail(MemoryEventLog):
    """Bodies without their tails."""

    caught_by = ("values.bodies_come_back_byte_for_byte",)

    def _move(self, row, item):
        events = [msgspec.structs.replace(event, body=event.body.partition(b"\n")[0]) for event in item.events]
        super()._move(row, msgspec.structs.replace(item, events=events))


class FieldsForgotten(MemoryEventLog):
    """Fields forgotten."""

    caught_by = ("values.an_event_keeps_its_other_fields",)

    def _move(self, row, item):
        events = [msgspec.structs.replace(event, version=1, at=1) for event in item.events]
        super()._move(row, msgspec.structs.replace(item, events=events))


class ChecksumsForgotten(MemoryEventLog):
    """Events come back without their checksums."""

    caught_by = ("values.an_event_keeps_its_other_fields",)

    def _move(self, row, item):
        events = [msgspec.structs.replace(event, checksum=0) for event in item.events]
        super()._move(row, msgspec.structs.replace(item, events=events))


class AttributesAsText(MemoryDatabase):
    """Attributes as text."""

    caught_by = ("values.attributes_come_back_as_values",)

    def insert(self, run, new, epoch):
        row = super().insert(run, new, epoch)
        row.attributes = json.dumps({key: str(value) for key, value in new.attributes.items()}).encode()
        return row


class NamesCutShort(MemoryDatabase):
    """Names cut short."""

    caught_by = ("values.names_may_be_any_text",)

    def insert(self, run, new, epoch):
        return super().insert(run, msgspec.structs.replace(new, tenant=new.tenant[:100].strip()), epoch)
