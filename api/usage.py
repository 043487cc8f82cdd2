"""What was used and what it cost, from the ledger's entries; and how much of each budget is left."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, Field

from api import present
from api.auth import Caller, CallerDep
from api.deps import House, HouseDep
from api.schemas import Usage, Usd
from goblin import clock
from goblin.errors import Unavailable, UsageError
from goblin.money import from_usd, to_usd
from ledger import batches, spending
from ledger.spending import GroupBy, Spent
from providers.name import nearest
from routing import budget
from routing.budget import Budget, State

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
    name: str = Field(examples=["all/day", "provider:openai/hour", "key"])
    limit_usd: Usd
    spent_usd: Usd
    held_usd: Usd = Field(description="the most that calls under way may still cost")
    remaining_usd: Usd
    resets_at: datetime | None = Field(None, description="when its window ends; a key's budget has none")


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
def get_budgets(house: HouseDep, caller: CallerDep) -> Budgets:
    """The budgets of the whole installation and of its providers, in hours and days of UTC, that of the key,
    and those of its batches that are under way."""
    return Budgets(data=budgets_above(house, caller))


def budgets_above(house: House, caller: Caller) -> list[BudgetOut]:
    """Raises Unavailable while Redis is away or its counters are being rebuilt."""
    above = _above(house, caller)
    counted = {state.name: state for state in _counted(house, above)}
    return [_budget(one, counted.get(one.name)) for one in above]


def _counted(house: House, above: Sequence[Budget]) -> list[State]:
    """As admission counts. Raises Unavailable while Redis is away or its counters are being rebuilt."""
    if house.admission.generation() is None:
        raise Unavailable("the counters of the budgets are being rebuilt", retry_after=2)
    return house.admission.budgets(above)


def _above(house: House, caller: Caller) -> list[Budget]:
    routing = house.settings.routing
    found = [
        budget.everything("hour", from_usd(routing.budget_hourly)),
        budget.everything("day", from_usd(routing.budget_daily)),
    ]
    for name, said in house.settings.providers.items():
        limits: tuple[tuple[budget.Period, str | float | None], ...] = (
            ("hour", said.budget_hourly),
            ("day", said.budget_daily),
        )
        found += [budget.of_provider(name, period, from_usd(usd)) for period, usd in limits if usd is not None]
    if caller.key_id is not None and caller.budget is not None:
        found.append(budget.of_key(caller.key_id, caller.budget))
    found += [budget.of_batch(one.id, one.budget) for one in batches.purses(house.ledger, caller.key_id)]
    return found


def _budget(one: Budget, state: State | None) -> BudgetOut:
    spent, held = (state.spent, state.held) if state else (0, 0)
    window_s = one.window_ms // 1000
    now = int(clock.now().timestamp())
    return BudgetOut(
        name=budget.known_as(one.name),
        limit_usd=to_usd(one.limit),
        spent_usd=to_usd(spent),
        held_usd=to_usd(held),
        remaining_usd=to_usd(max(one.limit - spent - held, 0)),
        resets_at=datetime.fromtimestamp((now // window_s + 1) * window_s, UTC) if window_s else None,
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
