"""Conversation: who said what, of which an agent sees the latest part, and a summary of what came before.

All of it is in the log, message by message, as the inputs and results of calls. What an agent is shown is bounded,
so a long conversation costs the same in each turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pointsman.kernel.errors import CallError, InvalidValue
from pointsman.kernel.run import Run

WINDOW = 20


@dataclass(frozen=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True)
class Thread:
    """What an agent gets: a summary of what it no longer sees, and the latest messages, oldest first.

    Attributes:
        summarised: so many of `messages`, the oldest, are in the summary already: it is made ahead.
    """

    summary: str = ""
    messages: list[Message] = field(default_factory=list)
    summarised: int = 0


class Conversation:
    """The conversation of one run.

    Args:
        window: an agent sees the last so many messages.
        summariser: an agent of a `Thread` (the summary so far, and the messages to add to it) that gives the new
            summary, before any of them falls out of view. None: what falls out of view is only in the log.
        every: so many messages are summarised together, those that are the next to fall out among them, so that not
            each turn needs a summary; half a window unless given.
        thread: what an earlier part had in view, to go on with.
    """

    def __init__(
        self, run: Run, *, window: int = WINDOW, summariser: Any = None, every: int | None = None,
        thread: Thread | None = None,
    ) -> None:  # fmt: skip
        self._run = run
        self._window = window
        self._every = max(window // 2, 1) if every is None else every
        if self._window < 1 or self._every < 1:
            raise InvalidValue(f"Conversation(window={window}, every={every}): 1 or more")
        self._summariser = summariser
        self._summary = thread.summary if thread is not None else ""
        self._messages = list(thread.messages) if thread is not None else []
        self._summarised = thread.summarised if thread is not None else 0

    @property
    def thread(self) -> Thread:
        """What an agent would be shown now."""
        return Thread(self._summary, list(self._messages), self._summarised)

    @property
    def messages(self) -> Sequence[Message]:
        """Those in view, oldest first."""
        return tuple(self._messages)

    def add(self, role: str, content: str) -> None:
        """Somebody said something."""
        self._messages.append(Message(role, content))

    async def ask(self, agent: Any, *, role: str = "assistant", **options: Any) -> Any:
        """Let `agent`, which takes a `Thread`, say something. `options` as of `run.call`. Raises CallError."""
        await self._shorten()
        said = await self._run.call(agent, self.thread, **options)
        self.add(role, said if isinstance(said, str) else str(said))
        return said

    async def _shorten(self) -> None:
        """Let what is over fall out of view, once it is summarised. It stays in view as long as that fails, or the
        cluster's mode leaves it out."""
        over = max(len(self._messages) - self._window, 0)
        if self._summariser is not None and over > self._summarised:
            batch = self._messages[self._summarised : max(over, self._summarised + self._every)]
            try:
                more = Thread(self._summary, batch)
                self._summary = str(await self._run.call(self._summariser, more, optional="memory"))
            except CallError:
                return
            self._summarised += len(batch)
        del self._messages[:over]
        self._summarised = max(self._summarised - over, 0)
