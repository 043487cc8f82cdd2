"""From a checked order to a run: store, then publish. Shared by every way in.

Once the run is stored it will run, whatever the broker is doing: a publish that fails is made good by the scheduler.
"""

from api.deps import House
from ledger import runs
from ledger.runs import Submitted
from workers.order import Desk, Order


def desk(house: House) -> Desk:
    return Desk(house.settings, house.registry)


def submit(house: House, order: Order) -> Submitted:
    """The run of an order: a new one, or that which its idempotency key holds, whatever has become of its candidates.

    Raises what the desk raises for an order that can never run, Conflict for an idempotency key of another order,
    RateLimited for a key that submits too often, Unavailable when Postgres cannot be reached. Nothing is stored then.
    """
    if order.idempotency_key is not None:  # who sends none has no look before the run is stored
        before = runs.submitted_before(house.ledger, order.key_id, order.idempotency_key)
        if before is not None:
            return before.by(order.as_run(desk(house).plan(order)))
    plan = desk(house).check(order)
    house.knocks.knock(order.key_id, order.rpm)
    submitted = runs.submit(house.ledger, order.as_run(plan))
    if submitted.is_new:
        house.broker.publish(plan, submitted.id)
    return submitted
