"""The demo's roster: twelve specialists in three domains, the capability each offers, the actions each does.

The one place where actions are cut into specialists; triage, agents and the score all read it. The cut
follows what a customer asks for, and each airline and retail action that writes belongs to exactly one
desk:

- airline: a new booking; a cancellation; a change of anything in a reservation (flights, bags, passengers);
  a compensation (the only action is a certificate).
- retail: a cancellation; a change of anything before delivery (items, payment, addresses, also the
  account's); a return; an exchange. The last two are apart: their look-ups and their rules differ.
- telecom: mobile data; service (no signal, SIM); messaging; billing.
"""

from __future__ import annotations

from dataclasses import dataclass

from pointsman.demo.models import DOMAINS, Domain

ENQUIRY = "enquiry"  # what a ticket needs when it asks for no action; no specialist offers it
TRANSFER = "transfer_to_human_agents"


@dataclass(frozen=True)
class Desk:
    """One specialist: its agent's name is the capability with an underscore for the dot."""

    domain: Domain
    name: str
    actions: tuple[str, ...]

    @property
    def capability(self) -> str:
        return f"{self.domain}.{self.name}"

    @property
    def agent(self) -> str:
        return f"{self.domain}_{self.name}"


DESKS: tuple[Desk, ...] = (
    Desk("airline", "booking", ("book_reservation",)),
    Desk("airline", "cancellation", ("cancel_reservation",)),
    Desk(
        "airline",
        "changes",
        ("update_reservation_flights", "update_reservation_baggages", "update_reservation_passengers"),
    ),
    Desk("airline", "compensation", ("send_certificate",)),
    Desk("retail", "cancellation", ("cancel_pending_order",)),
    Desk(
        "retail",
        "changes",
        (
            "modify_pending_order_items",
            "modify_pending_order_payment",
            "modify_pending_order_address",
            "modify_user_address",
        ),
    ),
    Desk("retail", "returns", ("return_delivered_order_items",)),
    Desk("retail", "exchanges", ("exchange_delivered_order_items",)),
    Desk(
        "telecom",
        "data",
        ("refuel_data", "enable_roaming", "toggle_roaming", "toggle_data", "disconnect_vpn"),
    ),
    Desk("telecom", "service", ("reseat_sim_card", "toggle_airplane_mode", "reset_apn_settings", "resume_line")),
    Desk("telecom", "messaging", ("grant_app_permission", "toggle_wifi_calling", "set_network_mode_preference")),
    Desk("telecom", "billing", ("send_payment_request", "make_payment")),
)

BY_CAPABILITY = {desk.capability: desk for desk in DESKS}
BY_DOMAIN = {domain: tuple(desk for desk in DESKS if desk.domain == domain) for domain in DOMAINS}
