"""The routes on budgets that many runs share: list, show, set.

Must not know how a budget is kept or spent. Budgets belong to the cluster: a request that speaks for one tenant may not
see or raise them, its own included.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from pointsman.api.body import decode_body
from pointsman.api.errors import ClusterOnly, InvalidQuery
from pointsman.api.reply import Reply
from pointsman.api.request import ApiRequest
from pointsman.api.runs import TENANT_HEADER
from pointsman.api.views import encode, time
from pointsman.kernel.errors import UnknownBudget
from pointsman.kernel.policy.amounts import MICROS, Amount, Budget
from pointsman.ports.budgets import BUDGET_SCOPES, Budgets, BudgetView

_COUNT_MAX = 10**9


class SetBody(msgspec.Struct, forbid_unknown_fields=True):
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


_set_decoder = msgspec.json.Decoder(SetBody)


class BudgetRoutes:
    """Handlers over the cluster's `Budgets`."""

    def __init__(self, budgets: Budgets) -> None:
        self._budgets = budgets

    async def list(self, request: ApiRequest) -> Reply:
        _check_cluster(request)
        settings = request.settings
        query = request.query("limit", "cursor")
        limit = query.integer("limit", settings.page_limit_default, low=1, high=settings.page_limit_max)
        found = await self._budgets.list(after=_after(query.text("cursor")), limit=limit)
        cursor = found[-1].scope if len(found) >= limit else None
        return Reply(200, encode(BudgetsBody([_budget_body(view) for view in found], cursor)))

    async def get(self, request: ApiRequest) -> Reply:
        _check_cluster(request)
        request.query()
        view = await self._budgets.get(_scope(request))
        if view is None:
            raise UnknownBudget
        return Reply(200, encode(_budget_body(view)))

    async def set(self, request: ApiRequest) -> Reply:
        _check_cluster(request)
        request.query()
        scope = _scope(request)
        body = decode_body(await request.body(), _set_decoder, SetBody.__struct_fields__)
        budget = Budget(usd=body.usd, tokens=body.tokens, calls=body.calls, per=body.per)
        return Reply(200, encode(_budget_body(await self._budgets.set(scope, budget, body.by))))


def _check_cluster(request: ApiRequest) -> None:
    if TENANT_HEADER in request.headers:
        raise ClusterOnly


def _scope(request: ApiRequest) -> str:
    """Raises: UnknownBudget, InvalidId."""
    if request.params["scope"] not in BUDGET_SCOPES:
        raise UnknownBudget(f"a budget's scope is one of {', '.join(BUDGET_SCOPES)}")
    return f"{request.params['scope']}/{request.id('name')}"


def _after(cursor: str | None) -> str:
    """Raises: InvalidQuery: a cursor that no page gave."""
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
    """A tranche holds, and a ledger counts, only what the budget limits: a 0 of anything else would be no figure."""
    return FiguresBody(
        None if limit.usd is None else amount.usd_micros / MICROS,
        None if limit.tokens is None else amount.tokens,
        None if limit.calls is None else amount.calls,
    )
