"""What was used and what it cost, from the ledger's entries; and how much of each budget is left."""

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field

from api import present
from api.auth import CallerDep
from api.deps import House, HouseDep
from api.schemas import Usage, Usd
from goblin import clock
from goblin.errors import UsageError
from goblin.money import from_usd, to_usd
from ledger import spending
from ledger.spending import GroupBy, Spent
from providers.name import nearest

router = APIRouter(tags=["money"])
_ROWS = 10_000


class UsageRow(BaseModel):
    """One value of every grouping asked for; the others are absent."""

    provider: str | None = None
    model: str | None = None
    goblin: str | None = None
    key: str | None = None
    day: str | None = Field(None, description="in UTC", examples=["2030-01-31"])
    calls: int
    usage: Usage
    cost_usd: Usd
    estimated_usd: Usd


class UsagePage(BaseModel):
    data: list[UsageRow]
    total: UsageRow
    truncated: bool = Field(description=f"there are more than {_ROWS} rows; the total counts them all")


class BudgetOut(BaseModel):
    name: str = Field(examples=["day"])
    window: Literal["hour", "day"]
    limit_usd: Usd
    spent_usd: Usd
    held_usd: Usd = Field(description="the most that calls under way may still cost")
    remaining_usd: Usd
    resets_at: datetime


class Budgets(BaseModel):
    data: list[BudgetOut]


@router.get("/v1/usage", response_model_exclude_unset=True, summary="Calls, tokens and money")
def get_usage(
    house: HouseDep,
    caller: CallerDep,
    group_by: Annotated[
        str, Query(max_length=100, description="any of provider, model, goblin, key, day", examples=["provider,day"])
    ] = "",
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
) -> UsagePage:
    """Of the caller's own key; dearest first."""
    groups = _groups(group_by)
    found = spending.usage(house.ledger, caller.key_id, groups, since=since, until=until, limit=_ROWS + 1)
    if groups:
        (total,) = spending.usage(house.ledger, caller.key_id, (), since=since, until=until, limit=1)
    else:
        (total,) = found
    rows = [_row(one, groups) for one in found[:_ROWS]] if groups else []
    return UsagePage(data=rows, total=_row(total, ()), truncated=len(found) > _ROWS)


@router.get("/v1/budgets", summary="What is left of each budget")
def get_budgets(house: HouseDep, _: CallerDep) -> Budgets:
    """The budgets of the whole installation, whose windows are hours and days of UTC."""
    hour = clock.now().replace(minute=0, second=0, microsecond=0)
    routing = house.settings.routing
    return Budgets(
        data=[
            _budget(house, "hour", routing.budget_hourly, hour, timedelta(hours=1)),
            _budget(house, "day", routing.budget_daily, hour.replace(hour=0), timedelta(days=1)),
        ]
    )


def _budget(
    house: House, window: Literal["hour", "day"], limit_usd: str | float, since: datetime, length: timedelta
) -> BudgetOut:
    limit, taken = from_usd(limit_usd), spending.taken(house.ledger, since)
    return BudgetOut(
        name=window,
        window=window,
        limit_usd=to_usd(limit),
        spent_usd=to_usd(taken.spent),
        held_usd=to_usd(taken.held),
        remaining_usd=to_usd(max(limit - taken.spent - taken.held, 0)),
        resets_at=since + length,
    )


def _groups(text: str) -> tuple[GroupBy, ...]:
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    known = [group.value for group in GroupBy]
    for name in names:
        if name not in known:
            raise UsageError(f"unknown grouping {name!r}{nearest(name, known)}", field="group_by", known=known)
    return tuple(GroupBy(name) for name in names)


def _row(spent: Spent, groups: tuple[GroupBy, ...]) -> UsageRow:
    return UsageRow(
        **dict(zip((group.value for group in groups), spent.group, strict=True)),
        calls=spent.calls,
        usage=present.usage(spent.tokens),
        cost_usd=to_usd(spent.nanousd),
        estimated_usd=to_usd(spent.estimated_nanousd),
    )
