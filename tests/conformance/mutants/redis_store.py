"""Mutants of the Redis store: what its scripts and its session hold to by themselves, and no other store has.

Each says which text of which topic's script is replaced by what, and the cases that must then fail.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ScriptMutant:
    name: str
    topic: str
    old: str
    new: str
    caught_by: tuple[str, ...]


MUTANTS = (
    ScriptMutant(
        "no_fence", "append",
        "if num(h.epoch) ~= item.epoch then return 'fenced' end", "",
        ("fencing.a_stale_epoch_is_fenced", "fencing.the_owner_before_never_writes_beside_the_new"),
    ),
    ScriptMutant(
        "a_claim_leaves_the_epoch", "ownership",
        "h.epoch = num(h.epoch) + 1\n    h.owner", "h.owner",
        ("ownership.a_claim_raises_the_epoch_by_one",),
    ),
    ScriptMutant(
        "closed_over_mail", "append",
        "if item.closes and num(h.mail) ~= item.folded then return 'mail_arrived' end", "",
        ("append.closing_over_unread_mail_is_refused",),
    ),
    ScriptMutant(
        "mail_is_not_counted", "mailbox",
        "h.mail = text(num(h.mail) + 1)", "local number = text(num(h.mail) + 1)",
        ("append.closing_over_unread_mail_is_refused",),
    ),
    ScriptMutant(
        "mail_wakes_nobody", "mailbox",
        "if h.owner == '' and (h.wake_at == '' or num(h.wake_at) > NOW) then h.wake_at = NOW end", "",
        ("mailbox.mail_makes_a_parked_run_due",),
    ),
    ScriptMutant(
        "a_child_alone", "append",
        "elseif parent and not (settled[parent] and settled[parent][1] == 'moved') then", "elseif false then",
        ("children.no_child_of_a_parent_that_did_not_move",),
    ),
    ScriptMutant(
        "the_ended_are_renewed", "liveness",
        "if not is_living(A.number) then return 0 end", "",
        ("liveness.a_holder_learns_that_it_was_ended",),
    ),
    ScriptMutant(
        "deleted_runs_stay_in_the_feed", "retention",
        "leave_feed(run, 0)", "",
        ("retention.the_feed_goes_on_over_what_was_deleted",),
    ),
    ScriptMutant(
        "the_whole_row_counts", "log",
        "return length and #raw > place + 5 and struct.unpack(length, raw, place + 2) or #raw", "return #raw",
        (
            "reading.a_page_ends_behind_the_event_that_reaches_its_bytes",
            "reading.what_a_page_leaves_is_told_by_its_bytes",
        ),
    ),
    ScriptMutant(
        "what_came_before_is_not_counted", "log",
        "for _, earlier in ipairs(read) do exact = exact + size(earlier) end", "",
        ("reading.runs_that_are_read_together_share_the_bytes",),
    ),
)  # fmt: skip
