"""Mutants of the board."""

import asyncio

from pointsman.stores.inprocess.board import InProcessBoard


class FirstWords(InProcessBoard):
    """What was said first stays."""

    caught_by = ("board.others_hear_what_was_said_last", "board.all_may_publish_at_once")

    async def publish(self, incarnation, body):
        return await super().publish(incarnation, self._database.board.get(incarnation, body))


class HearsItself(InProcessBoard):
    """One's own words come back."""

    caught_by = ("board.others_hear_what_was_said_last",)

    async def publish(self, incarnation, body):
        return {**await super().publish(incarnation, body), incarnation: body}


class BoardOfText(InProcessBoard):
    """Words as text."""

    caught_by = ("board.what_is_said_may_be_any_bytes",)

    async def publish(self, incarnation, body):
        return await super().publish(incarnation, body.decode("utf-8", "replace").encode())


class TheDeadAreHeard(InProcessBoard):
    """Nobody asks who lives when the board is read."""

    caught_by = ("board.what_the_ended_said_is_not_shown",)

    async def publish(self, incarnation, body):
        await super().publish(incarnation, body)
        said = vars(self._database).setdefault("said", {})
        if self._database.is_living(incarnation):
            said[incarnation] = body
        return {number: words for number, words in said.items() if number != incarnation}


class GhostsSpeak(InProcessBoard):
    """An ended incarnation that says something is heard again."""

    caught_by = ("board.what_the_ended_said_is_not_shown",)

    async def publish(self, incarnation, body):
        await super().publish(incarnation, body)
        self._database.board[incarnation] = body
        return {number: said for number, said in self._database.board.items() if number != incarnation}


class WordsAreHeardOnce(InProcessBoard):
    """As if it were a mailbox."""

    caught_by = ("board.the_silent_are_still_heard",)

    async def publish(self, incarnation, body):
        others = await super().publish(incarnation, body)
        for number in others:
            del self._database.board[number]
        return others


class PublishersDeadlock(InProcessBoard):
    """Two who remove the rows of the dead are told of a deadlock."""

    caught_by = ("board.all_may_publish_at_once",)

    async def publish(self, incarnation, body):
        under_way = vars(self._database).setdefault("publishing", set())
        if under_way - {incarnation} and len(self._database.deaths) > 1:
            raise RuntimeError("deadlock detected")
        under_way.add(incarnation)
        try:
            await asyncio.sleep(0)
            return await super().publish(incarnation, body)
        finally:
            under_way.discard(incarnation)
