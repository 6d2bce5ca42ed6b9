"""The specialists of three domains, and the agents around them, on tickets with a known right answer."""

from __future__ import annotations

import pytest

from pointsman.demo import desk
from pointsman.demo.data import Corpus
from pointsman.demo.desks import BY_DOMAIN, DESKS, Desk
from pointsman.demo.models import DOMAINS, Customer, Domain, Draft, Review, Ticket
from pointsman.demo.wheel import WRITING_ACTIONS

from .conftest import ROOMS, case_of, proposal_of


def test_the_roster_has_four_desks_a_domain_and_a_function_for_each() -> None:
    assert [len(BY_DOMAIN[domain]) for domain in DOMAINS] == [4, 4, 4]
    assert all(callable(getattr(ROOMS[one.domain], one.name)) for one in DESKS)


def test_every_scored_action_belongs_to_exactly_one_desk() -> None:
    cut = [action for one in DESKS if one.domain != "telecom" for action in one.actions]
    assert sorted(cut) == sorted(WRITING_ACTIONS)


@pytest.mark.parametrize(
    ("domain", "text", "action", "argument", "value"),
    [
        ("airline", "Cancel QK7M2A. nora_field_1021", "cancel_reservation", "reservation_id", ["QK7M2A"]),
        (
            "airline",
            "Cancel all my trips. nora_field_1021",
            "cancel_reservation",
            "reservation_id",
            ["QK7M2A", "DY70HT"],
        ),
        (
            "airline",
            "Move my flight LW94TC. tomas_reyes_2044",
            "update_reservation_flights",
            "reservation_id",
            "LW94TC",
        ),
        (
            "airline",
            "My flight PM606 was cancelled, I complain. hiro_tanabe_6093",
            "send_certificate",
            "amount_usd",
            "100",
        ),
        (
            "airline",
            "PM303 was delayed, compensate us! ines_duarte_3310",
            "send_certificate",
            "amount_usd",
            "100",
        ),
        (
            "airline",
            "Book me Chicago to Boston on May 23. nora_field_1021",
            "book_reservation",
            "flight_number",
            "PM121",
        ),
        (
            "retail",
            "Cancel #W1000006. Dmitri Volkov, 60657",
            "cancel_pending_order",
            "order_id",
            ["#W1000006"],
        ),
        (
            "retail",
            "Return the desk lamp. Ada Winter, 97214",
            "return_delivered_order_items",
            "item_ids",
            ["9000000011"],
        ),
        (
            "retail",
            "Exchange my boots for size 9. Bruno Silveira, 78704",
            "exchange_delivered_order_items",
            "new_item_ids",
            ["9000000022"],
        ),
        (
            "retail",
            "Exchange my lamp for a green one. elif_kaya_5605",
            "modify_pending_order_items",
            "new_item_ids",
            ["9000000013"],
        ),
        ("telecom", "No mobile data. 555-201-0001", "refuel_data", "line_id", "LI1"),
        ("telecom", "No service. 555-201-0003", "resume_line", "line_id", "LI3"),
        ("telecom", "What do I pay? 555-201-0005", "send_payment_request", "bill_id", "BI5"),
        ("telecom", "MMS fails. 555-201-0004", "grant_app_permission", "line_id", "LI4"),
    ],
)
def test_a_specialist_finds_what_the_ticket_means(
    sample: Corpus, domain: Domain, text: str, action: str, argument: str, value: str | list[str]
) -> None:
    proposal = proposal_of(sample, domain, text)
    assert proposal.action == action
    assert proposal.arguments[argument] == value


@pytest.mark.parametrize("one", DESKS, ids=lambda one: one.agent)
def test_a_specialist_without_a_customer_hands_over_instead_of_guessing(sample: Corpus, one: Desk) -> None:
    case = case_of(sample, one.domain, "Hello, it is me.")
    proposal = getattr(ROOMS[one.domain], one.name)(case, sample.databases[one.domain])
    assert (proposal.action, proposal.agent) == ("transfer_to_human_agents", one.agent)


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("I am ada_winter_1201.", "user_id"),
        ("Write to ADA.winter@example.org", "email"),
        ("Ada Winter, 97214", "name_and_zip"),
        ("This is Ada Winter.", "name"),
        ("About #W1000001 or W1000001.", "record"),
        ("Ada somebody, 11111", "nothing"),
    ],
)
def test_a_customer_is_found_by_what_the_text_gives(sample: Corpus, text: str, how: str) -> None:
    customer = case_of(sample, "retail", text).customer
    assert customer.found_by == how
    assert customer.user_id == (None if how == "nothing" else "ada_winter_1201")


def test_real_tickets_lead_to_the_order_and_reservation_they_name(wheel_corpus: Corpus) -> None:
    keyboard = proposal_of(
        wheel_corpus,
        "retail",
        "You received #W2378156 and wish to exchange the thermostat. Yusuf Rossi, 19122.",
    )
    assert keyboard.action == "exchange_delivered_order_items"
    assert keyboard.arguments["order_id"] == "#W2378156"
    assert keyboard.arguments["item_ids"] == ["4983901480"]
    trip = proposal_of(wheel_corpus, "airline", "You want to cancel EHGLP3. Your user id is emma_kim_9957.")
    assert trip.arguments["reservation_id"] == ["EHGLP3"]
    line = case_of(wheel_corpus, "telecom", "No service on 555-123-2002.").customer
    assert (line.user_id, [record.id for record in line.mentioned()]) == ("C1001", ["L1002"])


def test_every_customer_of_the_real_tickets_is_found(wheel_corpus: Corpus) -> None:
    found = [case_of(wheel_corpus, t.domain, t.text) for t in wheel_corpus.tickets]
    assert all(case.customer.user_id for case in found)
    assert max(len(case.model_dump_json()) for case in found) < 4_096


def test_policy_refuses_what_the_records_forbid(sample: Corpus) -> None:
    case = case_of(sample, "airline", "Cancel HB58VN. pavel_novik_4127")
    proposal = proposal_of(sample, "airline", case.ticket.text)
    check = desk.policy_check(Review(domain="airline", proposal=proposal, customer=case.customer))
    assert (check.allowed, check.reasons) == (False, ["HB58VN is neither insured nor business"])
    urgency = desk.assess(Ticket(id="t", domain="airline", text="I am upset"))
    reply = desk.compose(Draft(customer=case.customer, urgency=urgency, proposal=proposal, check=check))
    assert reply.text.startswith("Hello Pavel, I am sorry")
    assert "neither insured" in reply.text


def test_the_generalist_answers_from_the_records_or_hands_over(sample: Corpus) -> None:
    case = case_of(sample, "retail", "How is everything? Ada Winter, 97214")
    assert case.verdict.capability == "retail.enquiry"
    assert desk.generalist(case).action == "answer"
    nobody = case.model_copy(update={"customer": Customer()})
    assert desk.generalist(nobody).action == "transfer_to_human_agents"
