"""The airline's four specialists: they look up reservations and flights and propose one action each.

Plain functions of a case and a database. They propose; whether policy allows it is another agent's question.
"""

from __future__ import annotations

from typing import Any

from pointsman.demo.data import Database
from pointsman.demo.lookup import TODAY
from pointsman.demo.models import Case, Proposal
from pointsman.demo.proposing import Arguments, certainty, chosen, dates, ids, propose, says, unable

_USD_PER_TRAVELLER = {"cancelled": 100, "delayed": 50}


def booking(case: Case, database: Database) -> Proposal:
    """The cheapest direct flight on the day and route that the ticket names."""
    agent = "airline_booking"
    cabin = "business" if says(case, "business") else "economy"
    day = next(iter(dates(case.ticket.text)), None)
    offers = _offers(case, database, cabin, day)
    user = case.customer.user_id
    if not offers or user is None:
        return unable(agent, "a flight with seats on that route and day")
    price, number, date, origin, destination = min(offers)
    arguments: Arguments = {"user_id": user, "flight_number": number, "date": date, "cabin": cabin}
    arguments |= {"origin": origin, "destination": destination, "price_usd": str(price)}
    summary = f"Book {number} {origin}-{destination} on {date}, {cabin}, ${price}."
    return propose(agent, "book_reservation", arguments, 0.8 if day else 0.5, summary)


def _offers(case: Case, database: Database, cabin: str, day: str | None) -> list[tuple[int, str, str, str, str]]:
    """(price, flight, date, origin, destination) of flights that have seats; cities count in the text's
    order."""
    cities = case.facts.cities
    found = []
    for i, origin in enumerate(cities):
        for destination in cities[i + 1 :]:
            for number in database.routes.get((origin, destination), []):
                flight = database.get("flights", number) or {"dates": {}}
                for date, on in flight["dates"].items():
                    if on["status"] == "available" and on["available_seats"].get(cabin) and day in (None, date):
                        found.append((int(on["prices"][cabin]), number, date, origin, destination))
    return found


def cancellation(case: Case, database: Database) -> Proposal:
    """The upcoming reservations meant, with what was paid for them."""
    agent = "airline_cancellation"
    records = chosen(case, "upcoming", "flown")
    if not records:
        return unable(agent, "the reservation to cancel")
    rows = [row for record in records if (row := database.get("reservations", record.id))]
    paid = sum(payment["amount"] for row in rows for payment in row["payment_history"])
    reason = "airline cancelled" if says(case, "was cancell?ed") else "change of plan"
    arguments: Arguments = {"reservation_id": ids(records), "reason": reason, "paid_usd": str(paid)}
    summary = f"Cancel {', '.join(ids(records))} (${paid} paid)."
    return propose(agent, "cancel_reservation", arguments, certainty(records), summary)


def changes(case: Case, database: Database) -> Proposal:
    """One change of a reservation: its passengers, its bags, or else its flights or cabin."""
    agent = "airline_changes"
    records = chosen(case, "upcoming")
    if not records:
        return unable(agent, "the reservation to change")
    row = database.get("reservations", records[0].id) or {}
    arguments: Arguments = {"reservation_id": records[0].id}
    if says(case, r"passenger name|change the passenger|name on the reservation"):
        action, what = "update_reservation_passengers", _travellers(row)
    elif says(case, r"bags?|baggage|suitcases?|luggage") and not says(case, "change|upgrade"):
        action, what = "update_reservation_baggages", f"{row.get('total_baggages', 0)} bags so far"
        arguments["total_baggages"] = str(row.get("total_baggages", 0))
    else:
        action, what = "update_reservation_flights", records[0].about
        arguments["cabin"] = "business" if says(case, "business") else str(row.get("cabin", "economy"))
        arguments["flights"] = [flight["flight_number"] for flight in row.get("flights", [])]
    return propose(agent, action, arguments, certainty(records), f"Change {records[0].id}: {what}.")


def _travellers(row: dict[str, Any]) -> str:
    return ", ".join(f"{one['first_name']} {one['last_name']}" for one in row.get("passengers", []))


def compensation(case: Case, database: Database) -> Proposal:
    """A certificate per traveller, if the flight complained about was really late or cancelled."""
    agent = "airline_compensation"
    user = case.customer.user_id
    records = [record for record in case.customer.records if record.mentioned] or case.customer.records[-1:]
    rows = [row for record in records if (row := database.get("reservations", record.id))]
    if user is None or not rows:
        return unable(agent, "the flight complained about")
    for row in rows:
        for leg in row["flights"]:
            status = _status(database, leg["flight_number"], leg["date"])
            named = not case.facts.flights or leg["flight_number"] in case.facts.flights
            if named and status in _USD_PER_TRAVELLER:
                amount = _USD_PER_TRAVELLER[status] * len(row["passengers"])
                arguments: Arguments = {"user_id": user, "amount_usd": str(amount)}
                arguments |= {"reservation_id": row["reservation_id"], "flight_number": leg["flight_number"]}
                summary = f"Certificate of ${amount}: {leg['flight_number']} on {leg['date']} was {status}."
                return propose(agent, "send_certificate", arguments, 0.85, summary)
    arguments = {"user_id": user, "reservation_id": [row["reservation_id"] for row in rows]}
    summary = f"No leg of {', '.join(ids(records))} was late or cancelled up to {TODAY}: nothing to make good."
    return propose(agent, "send_certificate", {**arguments, "amount_usd": "0"}, 0.4, summary)


def _status(database: Database, number: str, date: str) -> str:
    flight = database.get("flights", number)
    return str(flight["dates"].get(date, {}).get("status", "unknown")) if flight else "unknown"
