"""Where the money went: entries summed for their owner."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, case, cast, func, literal, select
from sqlalchemy.types import Date

from ledger.models import Entry, Key
from ledger.session import Ledger
from ledger.views import TOKEN_SUMS, Tokens


class GroupBy(StrEnum):
    PROVIDER = "provider"
    MODEL = "model"
    GOBLIN = "goblin"
    KEY = "key"
    DAY = "day"  # in UTC


@dataclass(frozen=True, slots=True)
class Spent:
    """Calls and their cost under one value of every grouping asked for; `estimated` is the part nobody measured.

    An answer from the cache is no call.
    """

    group: tuple[str | None, ...]
    calls: int
    tokens: Tokens
    nanousd: int
    estimated_nanousd: int


def usage(
    ledger: Ledger,
    key_id: uuid.UUID | None,
    group_by: Sequence[GroupBy],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int,
) -> list[Spent]:
    """Sums over the entries of one key, dearest first; one row of totals when nothing is grouped."""
    groups = [_COLUMNS[group] for group in group_by]
    amount = func.sum(Entry.amount_nanousd)
    estimated = func.sum(case((Entry.is_measured, 0), else_=Entry.amount_nanousd))
    calls = func.count(Entry.attempt_id.distinct()).filter(Entry.price["source"].astext.is_distinct_from("cache"))
    query = (
        select(*groups, calls, *TOKEN_SUMS, amount, estimated)
        .select_from(Entry)
        .join(Key, Key.id == Entry.key_id, isouter=True)
        .where(Entry.key_id.is_(None) if key_id is None else Entry.key_id == key_id)
        .group_by(*groups)
        .order_by(amount.desc().nulls_last(), *groups)
        .limit(limit)
    )
    if since is not None:
        query = query.where(Entry.created_at >= since)
    if until is not None:
        query = query.where(Entry.created_at < until)
    return [_spent(tuple(row), len(groups)) for row in ledger.read(query)]


def _spent(row: tuple[Any, ...], groups: int) -> Spent:
    calls, *sums, amount, estimated = row[groups:]
    return Spent(
        group=tuple(None if value is None else str(value) for value in row[:groups]),
        calls=calls,
        tokens=Tokens.from_sums(sums),
        nanousd=int(amount or 0),
        estimated_nanousd=int(estimated or 0),
    )


_COLUMNS: dict[GroupBy, ColumnElement[Any]] = {
    GroupBy.PROVIDER: Entry.provider.expression,
    GroupBy.MODEL: Entry.model.expression,
    GroupBy.GOBLIN: Entry.goblin.expression,
    GroupBy.KEY: Key.name.expression,
    GroupBy.DAY: cast(func.timezone(literal("UTC"), Entry.created_at), Date),
}
