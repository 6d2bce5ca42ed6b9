"""The network operator's four specialists: they look up lines, plans and bills and propose one action each.

Plain functions of a case and a database. They propose; whether policy allows it is another agent's question.
"""

from __future__ import annotations

from typing import Any

from pointsman.demo.data import Database
from pointsman.demo.models import Case, Proposal, Record
from pointsman.demo.proposing import Arguments, certainty, propose, says, unable


def data(case: Case, database: Database) -> Proposal:
    """Out of data: refuel. Abroad: roaming. Else what most often slows a phone down."""
    agent = "telecom_data"
    found = _line(case, database)
    if found is None:
        return unable(agent, "the line")
    record, line = found
    plan = database.get("plans", line["plan_id"]) or {"data_limit_gb": 0.0}
    arguments: Arguments = {"line_id": record.id}
    if line["data_used_gb"] >= plan["data_limit_gb"] + line["data_refueling_gb"]:
        action, why = "refuel_data", "its data allowance is used up"
        arguments["gb_amount"] = "2.0"
    elif says(case, "abroad|roaming|travelling in"):
        action = "toggle_roaming" if line["roaming_enabled"] else "enable_roaming"
        why = "it is abroad"
    elif says(case, "vpn"):
        action, why = "disconnect_vpn", "a VPN is in the way"
    else:
        action, why = "toggle_data", "data is allowed and not used up, so the phone may have it off"
    return propose(agent, action, arguments, certainty([record]), f"{action} on {line['phone_number']}: {why}.")


def service(case: Case, database: Database) -> Proposal:
    """A suspended line is resumed; a line in order points to the phone."""
    agent = "telecom_service"
    found = _line(case, database)
    if found is None:
        return unable(agent, "the line")
    record, line = found
    if record.status == "suspended":
        action, why = "resume_line", "the line is suspended"
    elif says(case, "airplane mode|after (?:my|the|a) flight"):
        action, why = "toggle_airplane_mode", "the phone may be in airplane mode"
    else:
        action, why = "reseat_sim_card", "the line is active, so the SIM card may sit badly"
    summary = f"{action} for {line['phone_number']}: {why}."
    return propose(agent, action, {"line_id": record.id}, certainty([record]), summary)


def messaging(case: Case, database: Database) -> Proposal:
    """Picture messages need app permissions, or Wi-Fi calling out of the way."""
    agent = "telecom_messaging"
    found = _line(case, database)
    if found is None:
        return unable(agent, "the line")
    record, line = found
    action = "toggle_wifi_calling" if says(case, "wi-?fi") else "grant_app_permission"
    arguments: Arguments = {"line_id": record.id, "app_name": "messaging"}
    summary = f"{action} on {line['phone_number']} ({record.about})."
    return propose(agent, action, arguments, certainty([record]), summary)


def billing(case: Case, database: Database) -> Proposal:
    """The oldest bill that is not paid."""
    agent = "telecom_billing"
    customer = database.get("users", case.customer.user_id or "")
    if customer is None:
        return unable(agent, "the customer's account")
    bills = [bill for bill_id in customer["bill_ids"] if (bill := database.get("bills", bill_id))]
    due = [bill for bill in bills if bill["status"] in ("Overdue", "Issued", "Awaiting Payment")]
    if not due:
        return unable(agent, "a bill that is due")
    bill = min(due, key=lambda one: (one["status"] != "Overdue", str(one["due_date"])))
    arguments: Arguments = {"customer_id": customer["customer_id"], "bill_id": bill["bill_id"]}
    arguments["total_due_usd"] = f"{bill['total_due']:.2f}"
    summary = f"Ask for payment of {bill['bill_id']}, ${bill['total_due']:.2f}, due {bill['due_date']}."
    return propose(agent, "send_payment_request", arguments, 0.8, summary)


def _line(case: Case, database: Database) -> tuple[Record, dict[str, Any]] | None:
    """The line that the ticket names by its number, or the customer's only one."""
    lines = [record for record in case.customer.records if record.kind == "line"]
    named = [record for record in lines if record.mentioned] or (lines if len(lines) == 1 else [])
    row = database.get("lines", named[0].id) if named else None
    return (named[0], row) if row else None
