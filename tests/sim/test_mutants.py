"""Every guard has a mutant, and the simulator catches it."""

import pytest

from pointsman.testing.sim.mutants import MUTANTS, judge

CATCHERS = {
    "fence+primary-key": {"epochs_never_fall", "replays_identically", "one_end_and_it_is_last", "one_outcome_a_call"},
    "request-first": {"requests_come_first"},
    "nonce": {"one_outcome_a_call", "replays_identically", "one_end_and_it_is_last"},
    "resolve": {"budgets_hold", "requests_come_first", "acked_is_durable", "nothing_is_called_in_vain"},
    "lease-gate": {"nothing_is_called_in_vain"},
    "mail-barrier": {"mail_is_folded_once", "everything_ends"},
    "epoch": {"nothing_is_called_in_vain", "epochs_never_fall", "replays_identically"},
    "reservation": {"budgets_hold"},
    "settled-when-known": {"budgets_hold"},
    "certain-grant": {"everything_ends", "budgets_hold"},
    "checksum-chain": {"checksums_fit"},
}
SEEDS_MAX = 150
RARE = {"lease-gate": 900}
"""Guards of a moment that few schedules hit; tests/unit/coordinator aims at them too."""


def test_every_mutant_is_expected():
    assert CATCHERS.keys() == MUTANTS.keys()


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_guard_is_caught(name):
    verdict = judge(name, range(RARE.get(name, SEEDS_MAX)), enough=1 if name in RARE else 3)
    assert verdict.seeds_caught, f"{name} survived {verdict.seeds} seeds"
    assert CATCHERS[name] & verdict.caught_by.keys()
