"""Runs in a ledger without workers: accepted, claimed and ended by hand, and books that must add up."""

import uuid
from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from goblin.clock import new_id
from ledger import runs
from ledger.attempts import Charge, Claim, Ending
from ledger.runs import NewRun, NewStep
from ledger.session import Ledger
from ledger.states import AttemptStatus, StepStatus
from tests.fakes.plans import GOBLINS
from workflow.parse import parse
from workflow.plan import Plan

PRICE = {"input": 150_000_000, "output": 600_000_000, "source": "test"}

SUCCESS = Ending(
    AttemptStatus.SUCCEEDED, StepStatus.SUCCEEDED, "done", charge=Charge(700, is_measured=True, price=PRICE)
)
FAULT = Ending(AttemptStatus.FAILED, StepStatus.PENDING, error={"type": "unreachable", "message": "no connection"})


def plan_of(text: str) -> Plan:
    return parse(text, goblins=GOBLINS, default_goblin="chat")


def request(text: str = "say hello", **fields: Any) -> NewRun:
    plan = plan_of(text)
    steps = [NewStep(step.goblin, step.task, plan.dependencies(step.idx)) for step in plan.steps]
    return NewRun(text, plan.as_value(), {"text": "hello"}, {}, steps, **fields)


def accept(ledger: Ledger, text: str = "say hello") -> uuid.UUID:
    return runs.submit(ledger, request(text)).id


def claim(run: uuid.UUID, idx: int = 0, epoch: int = 1, **fields: Any) -> Claim:
    """A claim for a call by a worker process of its own; a lease below zero has run out when it begins."""
    made = Claim(new_id(), run, idx, epoch, "sim", "small", uuid.uuid4(), lease=60, hold=900, floor=40, decision={})
    return replace(made, **fields)


def rows(ledger: Ledger, sql: str, *parameters: Any) -> list[Row[Any]]:
    with ledger.engine.connect() as connection:
        return list(connection.exec_driver_sql(sql, parameters).all())


def one(ledger: Ledger, sql: str, *parameters: Any) -> Row[Any]:
    (row,) = rows(ledger, sql, *parameters)
    return row


def run_row(ledger: Ledger, run: uuid.UUID) -> Row[Any]:
    return one(ledger, "select * from runs where id = %s", run)


def step_rows(ledger: Ledger, run: uuid.UUID) -> list[Row[Any]]:
    return rows(ledger, "select * from steps where run_id = %s order by idx", run)


def assert_books_balance(ledger: Ledger) -> None:
    """Every run counts its open steps, and entries, run, steps and ended attempts name the same cost."""
    wrong = rows(
        ledger,
        """
        select r.id, r.open_steps, s.open, r.cost_nanousd, s.cost, a.cost, e.cost
        from runs r,
             lateral (select count(*) filter (where status in ('pending', 'waiting', 'running')) as open,
                             sum(cost_nanousd) as cost from steps where run_id = r.id) s,
             lateral (select coalesce(sum(spent_nanousd), 0) as cost from attempts
                      where run_id = r.id and status <> 'open') a,
             lateral (select coalesce(sum(amount_nanousd), 0) as cost from entries where run_id = r.id) e
        where r.open_steps <> s.open or r.cost_nanousd <> e.cost or s.cost <> e.cost or a.cost <> e.cost
        """,
    )
    assert not wrong
