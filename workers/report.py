"""What the listeners are told of a call's end, once the ledger holds it."""

import uuid
from collections.abc import Iterable
from dataclasses import asdict

from goblin.money import to_usd
from ledger.attempts import Closed, Ending
from ledger.states import StepStatus
from providers.message import Usage
from routing.budget import known_as
from workers.conclude import last_word
from workers.stream import StepFeed


def report(
    feed: StepFeed,
    run: uuid.UUID,
    ending: Ending,
    closed: Closed,
    usage: Usage,
    *,
    is_measured: bool,
    alerts: Iterable[str] = (),
) -> None:
    """`alerts` are the budgets that have just passed 80 %."""
    for name in alerts:
        feed.tell("budget.alert", budget=known_as(name))
    if ending.step is StepStatus.PENDING:
        if not ending.output:  # else whoever comes next may go on with it, or takes it back
            feed.say("step.reset", reason=(ending.error or {}).get("message"))
    else:
        counts = {**asdict(usage), "measured": is_measured}
        feed.say("step.finished", outcome=ending.step, cost_usd=to_usd(closed.cost), usage=counts, error=ending.error)
    if closed.ended:
        kind, data = last_word(run, closed.ended)
        feed.tell(kind, **data)
    feed.flush()
