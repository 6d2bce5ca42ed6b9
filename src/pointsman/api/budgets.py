"""The routes on budgets that many runs share: list, show, set.

Must not know how a budget is kept or spent. Budgets belong to the cluster: a request on behalf of a tenant may not
see or raise them, not even its own.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from pointsman.api.agents import refuse_tenant
from pointsman.api.body import JsonBody
from pointsman.api.errors import ClusterOnly, InvalidQuery
from pointsman.api.parameters import CURSOR, LIMIT, TENANT, PathChoice, PathId
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.api.routing import Answer, route
from pointsman.api.views import encode, time
from pointsman.kernel.errors import UnknownBudget
from pointsman.kernel.policy.amounts import MICROS, Amount, Budget
from pointsman.ports.budgets import BUDGET_SCOPES, Budgets, BudgetView

_COUNT_MAX = 10**9


class SetBudgetBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is absent or null is not limited. `per`: seconds after which it is whole again."""

    by: Annotated[str, Meta(min_length=1, max_length=128)]
    usd: Annotated[float, Meta(ge=0, le=_COUNT_MAX)] | None = None
    tokens: Annotated[int, Meta(ge=0, le=_COUNT_MAX)] | None = None
    calls: Annotated[int, Meta(ge=0, le=_COUNT_MAX)] | None = None
    per: Annotated[float, Meta(ge=1, le=_COUNT_MAX)] | None = None


class FiguresBody(msgspec.Struct):
    """null: not limited, or not counted."""

    usd: float | None
    tokens: int | None
    calls: int | None


class BudgetBody(msgspec.Struct):
    scope: str
    name: str
    limit: FiguresBody
    per: float | None
    by: str
    spent: FiguresBody
    reserved: FiguresBody
    free: FiguresBody
    tranches: int
    window_ends_at: str | None


class BudgetsBody(msgspec.Struct):
    budgets: list[BudgetBody]
    cursor: str | None


SET = JsonBody(SetBudgetBody)
SCOPE = PathChoice(
    "scope", "Whose budget it is.", values=BUDGET_SCOPES,
    unknown=UnknownBudget(f"a budget's scope is one of {', '.join(BUDGET_SCOPES)}"),
)  # fmt: skip
NAME = PathId("name", "Of the agent or tenant.")


class BudgetRoutes:
    """Handlers over the cluster's `Budgets`."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    @route(
        "list_budgets", "GET", "/v1/budgets", "List the budgets of agents and tenants, by scope and name",
        tag="budgets", parameters=(LIMIT, CURSOR, TENANT), answers=(Answer(200, BudgetsBody, "A page of budgets."),),
        errors=(ClusterOnly,),
    )  # fmt: skip
    async def list(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        limit, after = request.value(LIMIT), _after(request.value(CURSOR))
        found = await self._budgets.list(after=after, limit=limit)
        cursor = found[-1].scope if len(found) >= limit else None
        return Reply(200, encode(BudgetsBody([_budget_body(view) for view in found], cursor)))

    @route(
        "get_budget", "GET", "/v1/budgets/{scope}/{name}", "One budget: limit, spent, reserved, free", tag="budgets",
        parameters=(SCOPE, NAME, TENANT), answers=(Answer(200, BudgetBody, "The budget."),),
        errors=(ClusterOnly, UnknownBudget),
    )  # fmt: skip
    async def get(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        view = await self._budgets.get(_scope(request))
        if view is None:
            raise UnknownBudget
        return Reply(200, encode(_budget_body(view)))

    @route(
        "set_budget", "PUT", "/v1/budgets/{scope}/{name}", "Set a budget; it stands above what the code declares",
        tag="budgets", parameters=(SCOPE, NAME, TENANT), body=SET, answers=(Answer(200, BudgetBody, "It is set."),),
        errors=(ClusterOnly, UnknownBudget),
    )  # fmt: skip
    async def set(self, request: ApiRequest) -> Reply:
        refuse_tenant(request)
        scope = _scope(request)
        body = await SET.read(request)
        budget = Budget(usd=body.usd, tokens=body.tokens, calls=body.calls, per=body.per)
        return Reply(200, encode(_budget_body(await self._budgets.set(scope, budget, body.by))))


def _scope(request: ApiRequest) -> str:
    """The budget's scope in the path. Raises: UnknownBudget, InvalidId."""
    return f"{request.value(SCOPE)}/{request.value(NAME)}"


def _after(cursor: str | None) -> str:
    """The scope after which a page begins. Raises: InvalidQuery: no page returned this cursor."""
    if cursor is None:
        return ""
    scope, _, name = cursor.partition("/")
    if scope not in BUDGET_SCOPES or not name:
        raise InvalidQuery("cursor: not one that a page of budgets gave")
    return cursor


def _budget_body(view: BudgetView) -> BudgetBody:
    scope, _, name = view.scope.partition("/")
    limit = view.budget
    return BudgetBody(
        scope=scope,
        name=name,
        limit=FiguresBody(limit.usd, limit.tokens, limit.calls),
        per=limit.per,
        by=view.by,
        spent=_figures(view.spent, limit),
        reserved=_figures(view.reserved, limit),
        free=_figures(view.free, limit),
        tranches=view.tranches,
        window_ends_at=None if view.window_ends_at is None else time(view.window_ends_at),
    )


def _figures(amount: Amount, limit: Budget) -> FiguresBody:
    """The figures of what the budget limits; tranches and ledgers hold nothing else, and a 0 would mislead."""
    return FiguresBody(
        None if limit.usd is None else amount.usd_micros / MICROS,
        None if limit.tokens is None else amount.tokens,
        None if limit.calls is None else amount.calls,
    )
