"""Mutants of liveness: registrations, leases, and the deaths of others."""

import asyncio

from pointsman.stores.inprocess.liveness import InProcessLiveness
from pointsman.stores.memory import MemoryDatabase


class NamesNotGuarded(InProcessLiveness):
    """Names not guarded."""

    caught_by = ("liveness.a_living_name_is_refused",)

    async def register(self, name, address, definitions, *, ttl_ms):
        for row in self._database.living():
            if row.name == name:
                row.name = f"formerly {name}"
        return await super().register(name, address, definitions, ttl_ms=ttl_ms)


class ChecksNameThenRegisters(InProcessLiveness):
    """Checks the name, then registers."""

    caught_by = ("liveness.two_who_want_one_name_do_not_both_get_it",)

    async def register(self, name, address, definitions, *, ttl_ms):
        if any(row.name == name for row in self._database.living()):
            return await super().register(name, address, definitions, ttl_ms=ttl_ms)
        lease = await super().register(f"{name} {id(self)}", address, definitions, ttl_ms=ttl_ms)
        self._database.incarnations[lease.incarnation].name = name
        return lease


class DeadKeepTheirNames(MemoryDatabase):
    """Freed locks unseen."""

    caught_by = (
        "liveness.the_name_of_a_dead_process_is_free",
        "liveness.a_crash_is_noticed_before_the_lease_expires",
    )

    def sever(self, incarnation):
        pass


class NumbersComeBack(MemoryDatabase):
    """Numbers come back."""

    caught_by = ("liveness.incarnations_grow",)

    def register(self, name, address, definitions, ttl_ms):
        for number in [row.number for row in self.incarnations.values() if row.ended]:
            del self.incarnations[number]
        self.next_incarnation = len(self.incarnations) + 1
        return super().register(name, address, definitions, ttl_ms)


class RenewalRevives(InProcessLiveness):
    """Renewal revives."""

    caught_by = (
        "liveness.ended_never_comes_back",
        "liveness.a_holder_learns_that_it_was_ended",
    )

    async def renew(self, incarnation):
        self._database.incarnations[incarnation].ended = False
        return await super().renew(incarnation)


class NeverTold(InProcessLiveness):
    """Never told."""

    caught_by = ("liveness.a_holder_learns_that_it_was_ended",)

    async def renew(self, incarnation):
        await super().renew(incarnation)
        return True


class NeverRenews(InProcessLiveness):
    """Never renews."""

    caught_by = ("liveness.a_held_lease_outlives_its_ttl",)

    async def renew(self, incarnation):
        row = self._database.incarnations[incarnation]
        self._reached(self._clock.monotonic(), row.ttl_ms)
        return not row.ended


class MembersForEver(MemoryDatabase):
    """Members for ever."""

    caught_by = ("liveness.members_are_the_living",)

    def living(self):
        return iter(self.incarnations.values())


class ReleaseIsNothing(InProcessLiveness):
    """A release is nothing."""

    caught_by = (
        "liveness.releasing_twice_is_once",
        "liveness.a_release_that_leaves_runs_is_noticed",
        "liveness.incarnations_grow",
    )

    async def _end(self, incarnation):
        pass


class CrashUnseen(InProcessLiveness):
    """A crash is unseen."""

    caught_by = (
        "liveness.a_crash_is_noticed_before_the_lease_expires",
        "liveness.a_crash_during_nobodys_watch_is_noticed",
        "liveness.all_survivors_notice_a_death",
    )

    async def _look_around(self, others):
        await super()._look_around([row for row in others if not row.severed])


class ExpiryUnseen(InProcessLiveness):
    """An expiry is unseen."""

    caught_by = ("liveness.a_silent_holder_ends_with_its_lease",)

    def _may_judge(self, other):
        return False


class JudgesEarly(InProcessLiveness):
    """By the half of the lease."""

    caught_by = ("liveness.a_silent_holder_ends_with_its_lease",)

    async def _look_around(self, others):
        for row in others:
            if row.expires_at - self._database.clock.now() < row.ttl_ms * 0.85:
                self._database.end(row.number)
        await asyncio.wait_for(self._database.membership_change(0.01), 1)


class TellsOneWatcher(InProcessLiveness):
    """One watcher is told."""

    caught_by = ("liveness.all_survivors_notice_a_death",)

    async def next_death(self, own):
        death = await super().next_death(own)
        told = vars(self._database).setdefault("told", [])
        if death in told:
            await asyncio.Event().wait()
        told.append(death)
        return death


class OwnDeathCounts(InProcessLiveness):
    """One's own death counts."""

    caught_by = ("liveness.a_release_that_leaves_runs_is_noticed",)

    async def next_death(self, own):
        await super().next_death(own)
        return own


class ReleasesUnseen(InProcessLiveness):
    """A release is unseen."""

    caught_by = ("liveness.a_release_that_leaves_runs_is_noticed",)

    async def _end(self, incarnation):
        self._database.incarnations[incarnation].ended = True


class TrustForEver(InProcessLiveness):
    """Trust for ever."""

    caught_by = ("liveness.a_silent_holder_ends_with_its_lease",)

    async def register(self, name, address, definitions, *, ttl_ms):
        lease = await super().register(name, address, definitions, ttl_ms=ttl_ms)
        lease._trusted_until = float("inf")
        return lease


class AddressLost(MemoryDatabase):
    """Addresses lost."""

    caught_by = ("liveness.members_are_the_living",)

    def register(self, name, address, definitions, ttl_ms):
        return super().register(name, "", definitions, ttl_ms)
