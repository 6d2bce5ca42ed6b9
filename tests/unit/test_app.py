"""The ids that a process gives out."""

import time
from base64 import b32hexdecode, urlsafe_b64decode
from collections.abc import Sequence
from functools import reduce
from operator import and_, or_

from pointsman.app import SystemIds

COUNT = 500
RANDOM_BITS = 62


def test_run_ids_count_milliseconds_in_base_32_and_go_on_at_random() -> None:
    before = time.time_ns() // 1_000_000
    runs = [SystemIds().run_id() for _ in range(COUNT)]
    after = time.time_ns() // 1_000_000
    assert {len(run) for run in runs} == {22}
    numbers = [int.from_bytes(b32hexdecode("00" + run.upper())) for run in runs]
    assert all(before <= number >> RANDOM_BITS <= after for number in numbers)
    assert bits_that_change(numbers) % 2**RANDOM_BITS == 2**RANDOM_BITS - 1
    assert [run for _, run in sorted(zip(numbers, runs, strict=True))] == sorted(runs), "they sort as they count"


def test_seeds_are_96_bits_at_random() -> None:
    seeds = [SystemIds().seed() for _ in range(COUNT)]
    numbers = [int.from_bytes(urlsafe_b64decode(seed)) for seed in seeds]
    assert {len(seed) for seed in seeds} == {16}
    assert bits_that_change(numbers) == 2**96 - 1


def bits_that_change(numbers: Sequence[int]) -> int:
    return reduce(or_, numbers) & ~reduce(and_, numbers)
