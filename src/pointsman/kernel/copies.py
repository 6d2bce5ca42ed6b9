"""Find the parts of a large input that the run's log already holds, so that the log grows by new content only.

The search is cheap. It first compares the input with the front and the back of the last large input of the same target;
in the rest, it looks for passages of the outcomes and inputs recorded since, by a few short samples of each. There is
no index and no hashing: what is missed is written as a literal, which is always correct.

The sources are a bounded memory of recent events, which depends on the log alone: a run that was just replayed
remembers the same as one that never left memory, and writes the same bytes. Small inputs never come here.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from pointsman.kernel import events as ev
from pointsman.kernel.pieces import Piece, length_of, split_body
from pointsman.kernel.values import digest

MATCH_BYTES_MIN = 48
"""Shorter matches are not copied: a copy costs up to 40 bytes of header, including the split of a literal."""
OUTCOME_BYTES_MIN = 512
"""Smaller outcomes are remembered only once the run has had a large input: most runs never have one, and would keep
outcomes for nothing (a waiting run takes 4.5 KB)."""
INPUTS_MAX, INPUTS_BYTES_MAX = 8, 1_500_000
OUTCOMES_MAX, OUTCOMES_BYTES_MAX = 256, 500_000
"""Limits of what one run remembers; the newest of each kind is always kept."""
SAMPLE_BYTES, SAMPLES_MAX = 24, 16
"""Length and number of the samples of each source, which are evenly spaced."""
SCAN_BYTES_MAX = 16_000_000
"""Bytes that one search may scan: at most 5 ms (measured with 256 outcomes that share nothing with the input)."""

_VALUES: dict[type[ev.Event], str] = {
    ev.CallCompleted: "output", ev.CallSkipped: "output", ev.HumanTaskAnswered: "output", ev.ChildEnded: "output",
    ev.SignalReceived: "payload",
}  # fmt: skip
"""The field of each event with the value that the body was given, and may pass on."""
InputEvent = ev.CallRequested | ev.ChildStarted | ev.RunStarted | ev.RunRestarted | ev.StateSet
STATE = "run.state"
"""Stands for the target of a StateSet: no agent has such a name."""


class Source(msgspec.Struct, gc=False):
    """Bytes in the payload of event `sequence`, from `offset` on. `data` is empty until `load`."""

    sequence: int
    offset: int
    length: int
    data: bytes


class Match(msgspec.Struct, frozen=True, gc=False):
    """A match: `start` to `stop` of the new input are found at `offset` in the payload of event `sequence`."""

    start: int
    stop: int
    sequence: int
    offset: int


class Copies:
    """What one run remembers, and the search in it. Owned by the run's `Requests`."""

    def __init__(self) -> None:
        self._inputs: OrderedDict[str, Source] = OrderedDict()
        """The last large input of each target; the latest is last."""
        self._outcomes: deque[Source] = deque()
        self._input_bytes = self._outcome_bytes = 0

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._input_bytes + self._outcome_bytes

    # -- the memory -----------------------------------------------------------------------------------------------

    def note(self, sequence: int, event: ev.Event, body: bytes, data: bytes = b"") -> None:
        """Remember an event if it has something to copy. Call it for every event, in order. `data`: the full input."""
        if len(body) < OUTCOME_BYTES_MIN and not self._inputs:
            return
        name = _VALUES.get(type(event))
        if name is not None:
            self._note_outcome(sequence, bytes(getattr(event, name)), body)
        elif isinstance(event, InputEvent) and event.pieces:
            self._note_input(sequence, event, body, data)

    def load(self, read: Callable[[int], bytes]) -> None:
        """Fetch the inputs that were noted without their bytes; `read` gets the sequence of each."""
        for source in self._inputs.values():
            if not source.data:
                source.data = read(source.sequence)

    def _note_input(self, sequence: int, event: InputEvent, body: bytes, data: bytes) -> None:
        target = _target_of(event)
        before = self._inputs.pop(target, None)
        source = Source(sequence, len(split_body(body)[0]) + 1, length_of(event.pieces), data)
        self._inputs[target] = source
        self._input_bytes += source.length - (before.length if before is not None else 0)
        while len(self._inputs) > 1 and (self._input_bytes > INPUTS_BYTES_MAX or len(self._inputs) > INPUTS_MAX):
            self._input_bytes -= self._inputs.popitem(last=False)[1].length

    def _note_outcome(self, sequence: int, value: bytes, body: bytes) -> None:
        offset = body.find(value) if len(value) >= MATCH_BYTES_MIN else -1
        if offset < 0:  # too small, or not as stored: its event came through an upcaster
            return
        outcomes = self._outcomes
        outcomes.append(Source(sequence, offset, len(value), value))
        self._outcome_bytes += len(value)
        while len(outcomes) > 1 and (self._outcome_bytes > OUTCOMES_BYTES_MAX or len(outcomes) > OUTCOMES_MAX):
            self._outcome_bytes -= outcomes.popleft().length

    # -- the search -----------------------------------------------------------------------------------------------

    def cut(self, event: InputEvent, data: bytes) -> tuple[InputEvent, bytes]:
        """Split `data`, the large input of the event, into pieces. Returns the event with them, and its body's tail."""
        pieces, tail = self.find(_target_of(event), data)
        return msgspec.structs.replace(event, input=ev.ABSENT, pieces=pieces, digest=digest(data)), tail

    def find(self, target: str, data: bytes) -> tuple[tuple[Piece, ...], bytes]:
        """The pieces of a large input for `target`, and its tail; at worst it is all one literal."""
        same = self._inputs.get(target)
        before = same if same is not None else next(reversed(self._inputs.values()), None)
        matches: list[Match] = []
        gap = (0, len(data))
        if before is not None:
            front = common_front(before.data, data)
            back = common_back(before.data[front:], data[front:])
            ends = [_match(data, 0, front, before, 0)]
            ends.append(_match(data, len(data) - back, len(data), before, before.length - back))
            matches = [match for match in ends if match is not None]
            gap = (front if ends[0] is not None else 0, len(data) - back if ends[1] is not None else len(data))
        since = same.sequence if same is not None else 0
        outcomes = [source for source in reversed(self._outcomes) if source.sequence > since]
        inputs = [source for source in reversed(self._inputs.values()) if source.sequence >= since]
        matches += _search(data, gap, outcomes + inputs)
        return _written(data, sorted(matches, key=lambda match: match.start))


def _target_of(event: InputEvent) -> str:
    match event:
        case ev.CallRequested():
            return event.target
        case ev.ChildStarted():
            return event.workflow
        case ev.StateSet():
            return STATE
    return ""


def _search(data: bytes, gap: tuple[int, int], sources: Sequence[Source]) -> list[Match]:
    """Find passages of the sources in the part of `data` that is not matched yet."""
    gaps, matches = [gap], []
    left = SCAN_BYTES_MAX
    for source in sources:
        covered = 0
        for place in _places(source.length):
            if place < covered or source.length < SAMPLE_BYTES:
                continue
            sample = source.data[place : place + SAMPLE_BYTES]
            for number, (start, stop) in enumerate(gaps):
                left -= stop - start
                at = data.find(sample, start, stop) if stop - start >= MATCH_BYTES_MIN else -1
                match = _grown(data, at, start, stop, source, place) if at >= 0 else None
                if match is not None:
                    matches.append(match)
                    gaps[number : number + 1] = [(start, match.start), (match.stop, stop)]
                    covered = match.offset - source.offset + match.stop - match.start
                    break
            if left <= 0:
                return matches
    return matches


def _places(length: int) -> Iterable[int]:
    """The places of the samples in a source."""
    return range(0, max(length - SAMPLE_BYTES, 0) + 1, max(length // SAMPLES_MAX, MATCH_BYTES_MIN // 2))


def _grown(data: bytes, at: int, start: int, stop: int, source: Source, place: int) -> Match | None:
    """Extend a sample that was found at `at` as far as it matches in both directions."""
    back = common_back(data[start:at], source.data[:place])
    front = common_front(data[at:stop], source.data[place:])
    return _match(data, at - back, at + front, source, place - back)


def _match(data: bytes, start: int, stop: int, source: Source, place: int) -> Match | None:
    """A match, cut to whole characters, so that the rest is text: bodies are UTF-8. None: too short for a piece."""
    begin = start
    while begin < stop and data[begin] & 0xC0 == 0x80:
        begin += 1
    while begin < stop < len(data) and data[stop] & 0xC0 == 0x80:
        stop -= 1
    if stop - begin < MATCH_BYTES_MIN:
        return None
    return Match(begin, stop, source.sequence, source.offset + place + begin - start)


def _written(data: bytes, matches: Sequence[Match]) -> tuple[tuple[Piece, ...], bytes]:
    pieces: list[Piece] = []
    tail: list[bytes] = []
    position = 0
    for match in matches:
        if match.start > position:
            pieces.append((match.start - position,))
            tail.append(data[position : match.start])
        pieces.append((match.sequence, match.offset, match.stop - match.start))
        position = match.stop
    if position < len(data):
        pieces.append((len(data) - position,))
        tail.append(data[position:])
    return tuple(pieces), b"".join(tail)


def common_front(a: bytes, b: bytes) -> int:
    """The length of the common prefix. Bisects and compares slices, which is 100 times as fast as a loop."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def common_back(a: bytes, b: bytes) -> int:
    """The length of the common suffix."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[len(a) - middle : len(a) - low] == b[len(b) - middle : len(b) - low]:
            low = middle
        else:
            high = middle - 1
    return low
