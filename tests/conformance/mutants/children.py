"""Mutants of what runs leave each other: children and letters."""

from pointsman.kernel.errors import PointsmanError
from pointsman.ports.event_log import AppendResult, Outcome
from pointsman.stores.memory.event_log import MemoryEventLog


class OrphanChildren(MemoryEventLog):
    """A child is created whatever became of its parent."""

    caught_by = (
        "children.no_child_of_a_parent_that_did_not_move",
        "children.no_child_without_its_parent",
    )

    def _refuse_creation(self, row, item, settled):
        return Outcome.EXISTS if row is not None else None


class ParentNeedOnlyExist(MemoryEventLog):
    """A parent need only exist."""

    caught_by = (
        "children.no_child_of_a_parent_that_did_not_move",
        "children.no_child_without_its_parent",
    )

    def _refuse_creation(self, row, item, settled):
        if item.create.parent is not None and item.create.parent not in self._database.runs:
            return Outcome.MISSING
        return Outcome.EXISTS if row is not None else None


class NoChildren(MemoryEventLog):
    """No children."""

    caught_by = ("children.a_child_comes_with_its_parents_append",)

    def _refuse_creation(self, row, item, settled):
        return Outcome.MISSING if item.create.parent is not None else super()._refuse_creation(row, item, settled)


class LettersUnguarded(MemoryEventLog):
    """Sent whether or not the sender moved."""

    caught_by = (
        "children.a_refused_child_tells_nothing",
        "children.a_refused_child_wakes_nobody",
    )

    def _settle(self, item, settled):
        result = super()._settle(item, settled)
        if result.outcome is not Outcome.MOVED:
            self._deliver(item)
        return result


class LettersLost(MemoryEventLog):
    """Letters lost."""

    caught_by = (
        "children.a_childs_end_reaches_an_owned_parent_once",
        "children.a_childs_end_wakes_a_parked_parent",
        "children.many_children_end_in_one_batch",
        "crossing.letters_that_cross_both_arrive",
    )

    def _deliver(self, item):
        pass


class OneLetterPerBatch(MemoryEventLog):
    """Several letters to one run in a statement: an UPDATE sees its row once."""

    caught_by = ("children.many_children_end_in_one_batch",)

    def _commit(self, batch):
        self._addressed = set()
        return super()._commit(batch)

    def _deliver(self, item):
        if item.letter is not None and item.letter.run not in self._addressed:
            self._addressed.add(item.letter.run)
            super()._deliver(item)


class LettersDoNotWake(MemoryEventLog):
    """Letters do not wake."""

    caught_by = ("children.a_childs_end_wakes_a_parked_parent",)

    def _deliver(self, item):
        row = self._database.runs.get(item.letter.run) if item.letter else None
        before = row.wake_at if row else None
        super()._deliver(item)
        if row is not None:
            row.wake_at = before


class RefusedLetterRaises(MemoryEventLog):
    """A letter refused is an error."""

    caught_by = (
        "children.a_letter_that_cannot_arrive_holds_nobody",
        "children.two_letters_of_one_key_are_one",
        "races.a_letter_and_a_post_of_one_key_are_one",
    )

    def _deliver(self, item):
        letter = item.letter
        if letter is not None:
            self._database.accept_mail(letter.run, letter.key, letter.kind, letter.body)


class LettersCountTwice(MemoryEventLog):
    """A letter whose key the parent has is not stored, and is counted."""

    caught_by = (
        "children.two_letters_of_one_key_are_one",
        "children.a_letter_that_cannot_arrive_holds_nobody",
        "races.a_letter_and_a_post_of_one_key_are_one",
    )

    def _deliver(self, item):
        letter = item.letter
        if letter is not None:
            try:
                self._database.accept_mail(letter.run, letter.key, letter.kind, letter.body)
            except PointsmanError:
                if letter.run in self._database.runs:
                    self._database.runs[letter.run].mail += 1


class ParentsOnlyMove(MemoryEventLog):
    """A parent that is created counts as one that did not move."""

    caught_by = ("children.a_child_may_come_with_its_parents_creation",)

    def _refuse_creation(self, row, item, settled):
        parent = item.create.parent
        if parent is not None and len(self._database.runs[parent].nonces) == 1:
            return Outcome.MISSING
        return super()._refuse_creation(row, item, settled)


class ParentBlockedByExistingChild(MemoryEventLog):
    """An existing child blocks its parent."""

    caught_by = ("children.a_child_that_exists_leaves_its_parent_alone",)

    def _commit(self, batch):
        if any(item.create and item.create.parent and item.run in self._database.runs for item in batch):
            return [AppendResult(Outcome.EXISTS) for _ in batch]
        return super()._commit(batch)


class ExistingChildIsAdopted(MemoryEventLog):
    """An existing child is touched."""

    caught_by = ("children.a_child_that_exists_leaves_its_parent_alone",)

    def _settle(self, item, settled):
        result = super()._settle(item, settled)
        if result.outcome is Outcome.EXISTS:
            self._database.runs[item.run].epoch += 1
        return result
