"""Mutants of reservations. Those of the fence are with the human tasks: both are written together."""

from pointsman.stores.memory.event_log import MemoryEventLog
from pointsman.stores.memory.reservations import MemoryReservations


class OneReservationPerRun(MemoryEventLog):
    """A tranche remembers only the last event of a run."""

    caught_by = (
        "reservations.an_append_reserves",
        "reservations.many_events_may_spend_from_one_tranche",
    )

    def _write_rows(self, row, item):
        super()._write_rows(row, item)
        for spent in item.reservations:
            of_tranche = self._database.reservations[spent.tranche]
            of_tranche -= {known for known in of_tranche if known[0] == row.id and known[1] < spent.sequence}


class NoReservationOfNewRuns(MemoryEventLog):
    """A run that is created reserves nothing."""

    caught_by = ("reservations.an_append_reserves",)

    def _write_rows(self, row, item):
        if item.create is None:
            super()._write_rows(row, item)


class OnePageOfReservations(MemoryReservations):
    """Never more than a page of them."""

    caught_by = ("reservations.many_events_may_spend_from_one_tranche",)

    async def of(self, tranche, *, limit=10_000):
        return await super().of(tranche, limit=min(limit, 1000))


class NothingIsForgotten(MemoryReservations):
    """A settled tranche stays."""

    caught_by = ("reservations.a_settled_tranche_is_forgotten",)

    async def forget(self, tranche):
        await self.of(tranche)


class EverythingIsForgotten(MemoryReservations):
    """A DELETE without its WHERE."""

    caught_by = ("reservations.a_settled_tranche_is_forgotten",)

    async def forget(self, tranche):
        await super().forget(tranche)
        self._database.reservations.clear()


class ForgottenOnce(MemoryReservations):
    """A tranche that is not there is an error."""

    caught_by = ("reservations.a_settled_tranche_is_forgotten",)

    async def forget(self, tranche):
        await super().of(tranche)
        del self._database.reservations[tranche]


class TranchesTrimmed(MemoryReservations):
    """A tranche without its quotes."""

    caught_by = ("reservations.tranches_may_be_any_text",)

    async def of(self, tranche, *, limit=10_000):
        return await super().of(tranche.strip("'\""), limit=limit)
