"""The shop's four specialists: they look up orders, items and variants and propose one action each.

Plain functions of a case and a database. They propose; whether policy allows it is another agent's question.
"""

from __future__ import annotations

import re
from typing import Any

from pointsman.demo.data import Database
from pointsman.demo.models import Case, Proposal, Record
from pointsman.demo.proposing import Arguments, certainty, chosen, ids, propose, says, unable


def cancellation(case: Case, database: Database) -> Proposal:
    """The pending orders meant, with the sum that goes back."""
    agent = "retail_cancellation"
    records = chosen(case, "pending")
    if not records:
        return unable(agent, "a pending order to cancel")
    back = sum(item["price"] for record in records for item in _items(record, database))
    reason = "ordered by mistake" if says(case, "mistake") else "no longer needed"
    arguments: Arguments = {"order_id": ids(records), "reason": reason, "refund_usd": f"{back:.2f}"}
    summary = f"Cancel {', '.join(ids(records))} ({reason}); ${back:.2f} goes back."
    return propose(agent, "cancel_pending_order", arguments, certainty(records), summary)


def changes(case: Case, database: Database) -> Proposal:
    """One change before delivery: address, payment, or else items; the account's address where it alone is
    meant."""
    agent = "retail_changes"
    records = chosen(case, "pending")
    if says(case, "address") and case.customer.user_id and not (records and says(case, "orders?")):
        arguments: Arguments = {"user_id": case.customer.user_id, "address": _address(case, database)}
        return propose(agent, "modify_user_address", arguments, 0.6, "Change the address of the account.")
    if not records:
        return unable(agent, "a pending order to change")
    order = records[0]
    arguments = {"order_id": order.id}
    if says(case, "address|deliver it to|ship it to"):
        action, what = "modify_pending_order_address", "its address"
        arguments["address"] = _address(case, database)
    elif says(case, "payment method|pay with|split the payment"):
        action, what = "modify_pending_order_payment", "its payment"
    else:
        items, action = _meant(case, order, database), "modify_pending_order_items"
        arguments["item_ids"], arguments["new_item_ids"] = _swap(case, items, database)
        what = ", ".join(item["name"] for item in items)
    return propose(agent, action, arguments, certainty(records), f"Change {order.id}: {what}.")


def returns(case: Case, database: Database) -> Proposal:
    """The items meant of one delivered order, with their value."""
    agent = "retail_returns"
    records = chosen(case, "delivered")
    if not records:
        return unable(agent, "a delivered order")
    order = records[0]
    items = _meant(case, order, database)
    value = sum(item["price"] for item in items)
    arguments: Arguments = {"order_id": order.id, "item_ids": [item["item_id"] for item in items]}
    summary = f"Take back {', '.join(item['name'] for item in items)} of {order.id}, ${value:.2f}."
    return propose(agent, "return_delivered_order_items", arguments, certainty(records), summary)


def exchanges(case: Case, database: Database) -> Proposal:
    """The items meant of one delivered order, each with the available variant that fits the words best."""
    agent = "retail_exchanges"
    records = chosen(case, "delivered")
    if not records:
        return unable(agent, "a delivered order")
    order = records[0]
    items = _meant(case, order, database)
    old, new = _swap(case, items, database)
    arguments: Arguments = {"order_id": order.id, "item_ids": old, "new_item_ids": new}
    summary = f"Exchange {', '.join(item['name'] for item in items)} of {order.id}."
    return propose(agent, "exchange_delivered_order_items", arguments, certainty(records), summary)


# ---- look-ups --------------------------------------------------------------------------------------------


def _items(record: Record, database: Database) -> list[dict[str, Any]]:
    order = database.get("orders", record.id)
    return list(order["items"]) if order else []


def _meant(case: Case, record: Record, database: Database) -> list[dict[str, Any]]:
    """The order's items that the ticket names, or all of them when it names none."""
    items = _items(record, database)
    return [item for item in items if item["name"] in case.facts.products] or items


def _swap(case: Case, items: list[dict[str, Any]], database: Database) -> tuple[list[str], list[str]]:
    """Old and new item ids, pairwise; an item without another variant in stock is left out."""
    old, new = [], []
    words = set(re.findall(r"[a-z0-9]+", case.ticket.text.lower()))
    for item in items:
        product = database.get("products", item["product_id"]) or {"variants": {}}
        others = [v for v in product["variants"].values() if v["available"] and v["item_id"] != item["item_id"]]
        if others:
            best = max(others, key=lambda v: (_fit(v, item, words), -v["price"], v["item_id"]))
            old.append(str(item["item_id"]))
            new.append(str(best["item_id"]))
    return old, new


def _fit(variant: dict[str, Any], item: dict[str, Any], words: set[str]) -> int:
    """Two for an option changed to what the ticket says, one for an option that stays."""
    points = 0
    for option, value in variant["options"].items():
        if value == item["options"].get(option):
            points += 1
        elif words.issuperset(re.findall(r"[a-z0-9]+", str(value).lower())):
            points += 2
    return points


def _address(case: Case, database: Database) -> str:
    """The address of the customer's account, or of an order of theirs that the ticket speaks of by its
    city."""
    user = database.get("users", case.customer.user_id or "") or {}
    orders = [database.get("orders", record.id) for record in case.customer.records]
    known = [one["address"] for one in (*orders, user) if one and "address" in one]
    text = case.ticket.text.lower()
    meant = [one for one in known if str(one.get("city", "-")).lower() in text] or known[-1:]
    return ", ".join(str(meant[0].get(key, "")) for key in ("address1", "city", "zip")) if meant else "unknown"
