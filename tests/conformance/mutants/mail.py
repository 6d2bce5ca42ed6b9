"""Mutants of the mailbox, the wake-up, and the store's own life."""

import asyncio

import msgspec

from pointsman.kernel.errors import DuplicateMail, RunEnded, UnknownRun
from pointsman.ports.mailbox import Mail
from pointsman.stores.inprocess.wakeup import InProcessWakeup
from pointsman.stores.memory import MemoryDatabase, MemoryStore
from pointsman.stores.memory.mailbox import MemoryMailbox
from pointsman.stores.memory.session import Session


class SecondWins(MemoryDatabase):
    """The second of a key wins."""

    caught_by = ("mailbox.the_first_of_a_key_wins",)

    def accept_mail(self, run, key, kind, body):
        row = self.runs.get(run)
        if row is not None and key in row.letters:
            row.letters[key] = msgspec.structs.replace(row.letters[key], body=body)
            return row.letters[key].number
        return super().accept_mail(run, key, kind, body)


class DuplicatesCounted(MemoryDatabase):
    """Duplicates are counted."""

    caught_by = (
        "mailbox.the_first_of_a_key_wins",
        "mailbox.concurrent_mails_are_numbered_densely",
    )

    def accept_mail(self, run, key, kind, body):
        try:
            return super().accept_mail(run, key, kind, body)
        except DuplicateMail:
            self.runs[run].mail += 1
            raise


class KeysOfAllRuns(MemoryDatabase):
    """One key for all runs."""

    caught_by = ("mailbox.the_first_of_a_key_wins",)

    def accept_mail(self, run, key, kind, body):
        if any(key in row.letters for row in self.runs.values()):
            raise DuplicateMail
        return super().accept_mail(run, key, kind, body)


class EndedTakesMail(MemoryDatabase):
    """Ended runs take mail."""

    caught_by = (
        "mailbox.an_ended_run_takes_no_mail",
        "races.mail_is_folded_or_refused_by_an_end",
    )

    def accept_mail(self, run, key, kind, body):
        try:
            return super().accept_mail(run, key, kind, body)
        except RunEnded:
            self.runs[run].mail += 1
            return self.runs[run].mail


class UnknownTakesMail(MemoryDatabase):
    """Unknown runs take mail."""

    caught_by = ("mailbox.an_unknown_run_takes_no_mail",)

    def accept_mail(self, run, key, kind, body):
        try:
            return super().accept_mail(run, key, kind, body)
        except UnknownRun:
            return 1


class NumbersFromAllRuns(MemoryDatabase):
    """Numbers across runs."""

    caught_by = ("values.names_may_be_any_text",)

    def accept_mail(self, run, key, kind, body):
        number = super().accept_mail(run, key, kind, body)
        row = self.runs[run]
        total = sum(other.mail for other in self.runs.values())
        row.letters[key] = msgspec.structs.replace(row.letters[key], number=total)
        return number if number == total else total


class MailDoesNotWake(MemoryDatabase):
    """Mail does not wake."""

    caught_by = (
        "mailbox.mail_makes_a_parked_run_due",
        "races.mail_and_parking_never_miss_each_other",
    )

    def accept_mail(self, run, key, kind, body):
        before = self.runs[run].wake_at if run in self.runs else None
        number = super().accept_mail(run, key, kind, body)
        self.runs[run].wake_at = before
        return number


class MailWakesOnlyTheTimerless(MailDoesNotWake):
    """Mail leaves timers."""

    caught_by = ("mailbox.mail_makes_a_parked_run_due",)

    def accept_mail(self, run, key, kind, body):
        row = self.runs.get(run)
        if row is None or row.wake_at is not None:
            return super().accept_mail(run, key, kind, body)
        return MemoryDatabase.accept_mail(self, run, key, kind, body)


class MailTakesTheRun(MemoryDatabase):
    """Mail takes a run from its owner."""

    caught_by = ("mailbox.mail_leaves_an_owned_run_with_its_owner",)

    def accept_mail(self, run, key, kind, body):
        if run in self.runs:
            self.runs[run].owner = None
        return super().accept_mail(run, key, kind, body)


class MailRevives(MemoryDatabase):
    """Mail revives what is held back."""

    caught_by = ("mailbox.a_held_back_run_takes_mail",)

    def accept_mail(self, run, key, kind, body):
        number = super().accept_mail(run, key, kind, body)
        if self.runs[run].owner is None:
            self.runs[run].status = "running"
        return number


class NumbersDrawnApart(MemoryMailbox):
    """Counts, lets others in, and then writes."""

    caught_by = ("mailbox.concurrent_mails_are_numbered_densely",)

    async def post(self, run, key, kind, body):
        await self._session.enter()
        row = self._database.runs[run]
        if key in row.letters:
            raise DuplicateMail
        number = row.mail + 1
        await asyncio.sleep(0)
        row.mail = number
        row.letters[key] = Mail(number, key, kind, body, 1)
        return number


class ReadsAll(MemoryMailbox):
    """Reads all mail."""

    caught_by = ("mailbox.mails_are_numbered_in_order",)

    async def read(self, run, *, after):
        return await super().read(run, after=0)


class FindsTheFirst(MemoryMailbox):
    """Finds the first mail."""

    caught_by = ("mailbox.mail_is_found_by_its_key",)

    async def find(self, run, key):
        mails = await super().read(run, after=0)
        return mails[0] if mails else None


class FoldedIsDeleted(MemoryMailbox):
    """Folded mail is deleted."""

    caught_by = ("mailbox.folded_mail_stays",)

    async def read(self, run, *, after):
        row = self._database.runs.get(run)
        return await super().read(run, after=max(after, row.folded if row else 0))


class UnreadOfAll(MemoryMailbox):
    """Unread of all owners."""

    caught_by = ("mailbox.unread_shows_what_an_owner_missed",)

    async def unread(self, owner):
        return {row.id: row.mail for row in self._database.open_runs.values() if row.mail > row.folded}


class UnreadForgetsFolded(MemoryMailbox):
    """Unread though folded."""

    caught_by = ("mailbox.unread_shows_what_an_owner_missed",)

    async def unread(self, owner):
        return {row.id: row.mail for row in self._database.open_runs.values() if row.owner == owner and row.mail}


class MailBodiesStripped(MemoryMailbox):
    """Mail bodies stripped."""

    caught_by = ("values.mail_comes_back_byte_for_byte",)

    def _accept(self, run, key, kind, body):
        return super()._accept(run, key, kind, body.strip())


class AnyTextTaken(MemoryMailbox):
    """Any text taken."""

    caught_by = ("values.text_that_no_database_holds_is_refused",)

    async def post(self, run, key, kind, body):
        await self._session.enter()
        return self._accept(run if run in self._database.runs else "run", key, kind, body)


class DeafWakeup(InProcessWakeup):
    """Hints go nowhere."""

    caught_by = ("wakeup.a_hint_reaches_the_others",)

    def hint(self, runs):
        pass


class HintsToTheFirst(InProcessWakeup):
    """Hints go to one."""

    caught_by = ("wakeup.a_hint_reaches_the_others",)

    def hint(self, runs):
        for inbound in [inbound for inbound in self._everyone() if inbound is not self._own][:1]:
            inbound.put(runs)


class HintsOnlyWhenAwaited(InProcessWakeup):
    """Hints only while awaited."""

    caught_by = ("wakeup.a_hint_before_the_wait_counts",)

    async def next_hints(self):
        self._own._runs.clear()
        return await super().next_hints()


class HintsJoinedByCommas(InProcessWakeup):
    """Hints joined by commas."""

    caught_by = ("wakeup.hints_keep_their_names",)

    def hint(self, runs):
        super().hint(",".join(runs).split(","))


class HintsTooLong(InProcessWakeup):
    """Hints can be too long."""

    caught_by = ("wakeup.any_number_of_hints_is_no_error",)

    def hint(self, runs):
        if sum(map(len, runs)) > 8_000:
            raise ValueError("payload string too long")
        super().hint(runs)


class HintsNeedASession(InProcessWakeup):
    """Hints of the closed."""

    caught_by = ("wakeup.a_closed_store_hints_without_effect",)

    def hint(self, runs):
        if self._own not in self._everyone():
            raise RuntimeError("closed")
        super().hint(runs)


class NeverClosed(Session):
    """Never closed."""

    caught_by = ("lifecycle.a_closed_store_says_so",)

    async def enter(self):
        await asyncio.sleep(0)


class ClosesOnce(MemoryStore):
    """Closes once."""

    caught_by = ("lifecycle.closing_twice_is_once",)

    async def close(self):
        self.database.inbound.remove(self._inbound)
        await super().close()


class ForgetsAtClose(MemoryStore):
    """Forgets at close."""

    caught_by = ("lifecycle.what_was_written_outlives_the_store",)

    async def close(self):
        await super().close()
        self.database.runs.clear()


class DescribesNothing(MemoryStore):
    """Describes nothing."""

    caught_by = ("lifecycle.a_store_describes_itself",)

    @property
    def description(self):
        return ""


class BucketOfItsOwn(MemoryStore):
    """A bucket of its own."""

    caught_by = ("lifecycle.stores_agree_on_time_and_bucket",)

    def bucket(self):
        return id(self)
