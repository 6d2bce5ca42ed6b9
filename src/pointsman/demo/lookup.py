"""Intake and identification: what a ticket's text says that can be looked up, and whose ticket it is.

Plain functions over one domain's database; no engine, no latency, no journal. Intake only finds patterns;
identification alone decides what is true, and says by which of the patterns it found the customer.
"""

from __future__ import annotations

import re
from typing import Any

from pointsman.demo.data import Database
from pointsman.demo.models import Customer, Domain, Facts, Record, Ticket

# The day on which the airline's and the shop's tickets are written: their databases stand still on it.
TODAY = "2024-05-15"
MOST_RECORDS = 12  # a customer's records that travel along in a case; keeps a call's input under 4 KB

_USER_ID = re.compile(r"\b[a-z]+_[a-z]+_\d{3,5}\b")
_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.[a-z]{2,}\b")
_ZIP = re.compile(r"(?<![\d#-])\b\d{5}\b(?!-)")
_PHONE = re.compile(r"\b\d{3}-\d{3}-\d{4}\b")
_ORDER = re.compile(r"(?<!\w)#?(W\d{7})\b")
_RESERVATION = re.compile(r"\b(?=[A-Z0-9]*[A-Z])[A-Z0-9]{6}\b")
_FLIGHT = re.compile(r"\b[A-Z]{2,3}\d{3}\b")
_NAME = re.compile(r"\b(?=([A-Z][a-z]+ [A-Z][a-z]+)\b)")
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)?")

AIRPORTS = {
    "new york": ("JFK", "LGA", "EWR"), "newark": ("EWR",), "laguardia": ("LGA",), "los angeles": ("LAX",),
    "san francisco": ("SFO",), "seattle": ("SEA",), "chicago": ("ORD",), "boston": ("BOS",),
    "dallas": ("DFW",),
    "denver": ("DEN",), "houston": ("IAH",), "atlanta": ("ATL",), "miami": ("MIA",), "orlando": ("MCO",),
    "philadelphia": ("PHL",), "phoenix": ("PHX",), "las vegas": ("LAS",), "minneapolis": ("MSP",),
    "detroit": ("DTW",), "charlotte": ("CLT",),
}  # fmt: skip
_CODES = sorted({code for codes in AIRPORTS.values() for code in codes})
_CITY = re.compile(rf"\b(?:(?i:{'|'.join(AIRPORTS)})|{'|'.join(_CODES)})\b")
# What customers call a product when they do not use the last word of its name.
_ALSO_CALLED = {
    "t-shirt": ("tshirt", "shirt"), "puzzle": ("jigsaw",), "shoes": ("sneaker", "shoe"),
    "earbuds": ("earbud",),
    "bookshelf": ("bookshelves", "shelf"), "smartphone": ("phone",), "headphones": ("headphone",),
}  # fmt: skip


def intake(ticket: Ticket, database: Database) -> Facts:
    """Everything in the text that looks like something to look up, in order, each once."""
    text = ticket.text
    lower = text.lower()
    return Facts(
        user_ids=_once(_USER_ID.findall(text)),
        names=_once(_NAME.findall(text))[:12],
        emails=_once(_EMAIL.findall(lower)),
        zips=_once(_ZIP.findall(text)),
        phones=_once(_PHONE.findall(text)),
        orders=_once(f"#{number}" for number in _ORDER.findall(text)),
        reservations=_once(_RESERVATION.findall(text)),
        flights=_once(_FLIGHT.findall(text)),
        cities=_cities(text),
        products=_products(lower, database),
    )


def identify(domain: Domain, facts: Facts, database: Database) -> Customer:
    """The customer and their records; `found_by="nothing"` when the text leads to nobody."""
    user_id, how = _find(facts, database)
    user = database.get("users", user_id) if user_id else None
    if user_id is None or user is None:
        return Customer()
    records = {"airline": _reservations, "retail": _orders, "telecom": _lines}[domain](user, facts, database)
    records.sort(key=lambda record: not record.mentioned)
    name = f"{user['name']['first_name']} {user['name']['last_name']}"
    return Customer.model_validate(
        {"user_id": user_id, "name": name, "found_by": how, "records": records[:MOST_RECORDS]}
    )


def _find(facts: Facts, database: Database) -> tuple[str | None, str]:
    for user_id in facts.user_ids:
        if user_id in database.tables["users"]:
            return user_id, "user_id"
    for index, keys, how in (
        (database.by_email, facts.emails, "email"),
        (database.by_phone, facts.phones, "phone"),
    ):
        for key in keys:
            if key in index:
                return index[key], how
    known = [user for name in facts.names for user in database.by_name.get(name.lower(), [])]
    here = [user for user in known if database.zips[user] in facts.zips]
    if here:
        return here[0], "name_and_zip"
    if len(known) == 1:
        return known[0], "name"
    for table, keys in (("orders", facts.orders), ("reservations", facts.reservations)):
        for key in keys:
            row = database.get(table, key)
            if row is not None:
                return str(row["user_id"]), "record"
    return None, "nothing"


# ---- a customer's records ------------------------------------------------------------------------------


def _reservations(user: dict[str, Any], facts: Facts, database: Database) -> list[Record]:
    records = []
    for code in user.get("reservations", []):
        row = database.get("reservations", code)
        if row is not None:
            records.append(_reservation(row, facts))
    return records


def _reservation(row: dict[str, Any], facts: Facts) -> Record:
    first = min((flight["date"] for flight in row["flights"]), default="")
    status = "cancelled" if row.get("status") == "cancelled" else "upcoming" if first >= TODAY else "flown"
    insured = "insured" if row["insurance"] == "yes" else "not insured"
    about = f"{row['origin']}-{row['destination']} {row['cabin']}, {insured}, {len(row['passengers'])} travelling"
    route = row["origin"] in facts.cities and row["destination"] in facts.cities
    flown = any(flight["flight_number"] in facts.flights for flight in row["flights"])
    mentioned = row["reservation_id"] in facts.reservations or (not facts.reservations and (route or flown))
    return Record(id=row["reservation_id"], kind="reservation", status=status, about=about, mentioned=mentioned)


def _orders(user: dict[str, Any], facts: Facts, database: Database) -> list[Record]:
    records = []
    for number in user.get("orders", []):
        row = database.get("orders", number)
        if row is not None:
            names = _once(item["name"] for item in row["items"])
            named = number in facts.orders or any(name in facts.products for name in names)
            about = ", ".join(names)
            records.append(Record(id=number, kind="order", status=row["status"], about=about, mentioned=named))
    return records


def _lines(user: dict[str, Any], facts: Facts, database: Database) -> list[Record]:
    records = []
    for line_id in user.get("line_ids", []):
        row = database.get("lines", line_id)
        if row is not None:
            plan = database.get("plans", row["plan_id"]) or {"name": "no plan", "data_limit_gb": 0}
            roaming = "on" if row["roaming_enabled"] else "off"
            about = f"{plan['name']}, {row['data_used_gb']} of {plan['data_limit_gb']} GB, roaming {roaming}"
            named = row["phone_number"] in facts.phones
            status = str(row["status"]).lower()
            records.append(Record(id=line_id, kind="line", status=status, about=about, mentioned=named))
    return records


def _cities(text: str) -> list[str]:
    """Airport codes of the cities and airports named, in the order of the text."""
    found: list[str] = []
    for hit in _CITY.finditer(text):
        found += AIRPORTS.get(hit.group().lower(), (hit.group(),))
    return _once(found)


def _products(text: str, database: Database) -> list[str]:
    """Product names that the text speaks of, by their last word or by what customers call it."""
    words = {word.removesuffix("s") for word in _WORD.findall(text)} | set(_WORD.findall(text))
    found = []
    for name in database.product_names:
        last = name.lower().split()[-1]
        if not words.isdisjoint((last, last.removesuffix("s"), *_ALSO_CALLED.get(last, ()))):
            found.append(name)
    return found


def _once(values: Any) -> list[str]:
    return list(dict.fromkeys(values))
