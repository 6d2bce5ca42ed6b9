"""The tickets: the Banking77 training set, real questions to a bank, and the specialist that is right for each.

The 77 intents are dealt out among 12 specialists by subject, so that none is right for more than 12 % of the rows:
always naming the same one would be wrong 88 times of 100.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

DEFAULT_DATA: Final = Path(__file__).parents[3] / "shared" / "data" / "banking77_train.csv"
SHARE_MAX: Final = 0.12
FIELDS: Final = ["text", "category"]

INTENTS: Final[dict[str, tuple[str, ...]]] = {
    "card_delivery": (
        "card_arrival", "card_delivery_estimate", "order_physical_card", "getting_spare_card", "card_linking",
        "activate_my_card", "card_about_to_expire",
    ),
    "card_security": (
        "card_not_working", "compromised_card", "lost_or_stolen_card", "lost_or_stolen_phone", "card_swallowed",
        "contactless_not_working",
    ),
    "card_products": (
        "getting_virtual_card", "get_disposable_virtual_card", "disposable_card_limits", "virtual_card_not_working",
        "visa_or_mastercard", "supported_cards_and_currencies", "apple_pay_or_google_pay", "card_acceptance",
    ),
    "card_payments": (
        "card_payment_not_recognised", "direct_debit_payment_not_recognised", "pending_card_payment",
        "reverted_card_payment?", "declined_card_payment",
    ),
    "access": (
        "change_pin", "pin_blocked", "passcode_forgotten", "get_physical_card", "edit_personal_details",
        "terminate_account",
    ),
    "identity": (
        "why_verify_identity", "verify_my_identity", "unable_to_verify_identity", "verify_source_of_funds",
        "age_limit", "country_support",
    ),
    "top_ups": (
        "top_up_by_card_charge", "top_up_by_bank_transfer_charge", "topping_up_by_card", "top_up_limits",
        "automatic_top_up", "verify_top_up", "pending_top_up", "top_up_failed", "top_up_reverted",
    ),
    "exchange": (
        "exchange_rate", "exchange_charge", "exchange_via_app", "fiat_currency_support",
        "wrong_exchange_rate_for_cash_withdrawal", "card_payment_wrong_exchange_rate",
    ),
    "cash": (
        "cash_withdrawal_charge", "declined_cash_withdrawal", "cash_withdrawal_not_recognised",
        "wrong_amount_of_cash_received", "pending_cash_withdrawal", "atm_support",
    ),
    "charges": (
        "request_refund", "Refund_not_showing_up", "extra_charge_on_statement", "transaction_charged_twice",
        "card_payment_fee_charged",
    ),
    "transfers_out": (
        "failed_transfer", "declined_transfer", "beneficiary_not_allowed", "cancel_transfer", "transfer_fee_charged",
    ),
    "transfers_in": (
        "transfer_not_received_by_recipient", "balance_not_updated_after_bank_transfer",
        "balance_not_updated_after_cheque_or_cash_deposit", "pending_transfer", "transfer_timing",
        "transfer_into_account", "receiving_money", "top_up_by_cash_or_cheque",
    ),
}  # fmt: skip
SPECIALISTS: Final = tuple(INTENTS)
_SPECIALIST_OF: Final = {intent: name for name, intents in INTENTS.items() for intent in intents}


class DataMissing(Exception):
    """The file with the tickets is not there."""


class DataDamaged(ValueError):
    """The file is not the Banking77 training set."""


class Ticket(msgspec.Struct, frozen=True):
    """`row` counts the file's data rows from 0; `specialist` is who is right for it."""

    row: int
    text: str
    specialist: str

    @property
    def is_fitted_on(self) -> bool:
        """Even rows are what the classifier is fitted on, odd ones what it is scored on."""
        return self.row % 2 == 0


def load(path: Path) -> list[Ticket]:
    """All tickets, in the order of the file.

    Raises:
        DataMissing: no such file. DataDamaged: other columns, or an intent that is none of the 77.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataMissing(
            f"{path} is not there; give the Banking77 training set (text,category) with --data"
        ) from error
    reader = csv.DictReader(text.splitlines(keepends=True))
    if reader.fieldnames != FIELDS:
        raise DataDamaged(f"{path}: its columns are {reader.fieldnames}, not {FIELDS}")
    tickets = []
    for row, line in enumerate(reader):
        specialist = _SPECIALIST_OF.get(line["category"])
        if specialist is None:
            raise DataDamaged(f"{path}: row {row} has the intent {line['category']!r}, which is none of the 77")
        tickets.append(Ticket(row, line["text"], specialist))
    return tickets


def in_order(tickets: list[Ticket], seed: int, count: int) -> list[Ticket]:
    """`count` of the tickets as they are sent: shuffled, since the file is sorted by intent.

    Raises:
        ValueError: there are not so many.
    """
    if not 0 < count <= len(tickets):
        raise ValueError(f"{count} tickets: there are {len(tickets)}")
    shuffled = list(tickets)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:count]


def shares(tickets: list[Ticket]) -> dict[str, float]:
    """The share of the tickets for which each specialist is right, the largest first."""
    counted = Counter(ticket.specialist for ticket in tickets)
    return {name: round(number / len(tickets), 4) for name, number in counted.most_common()}
