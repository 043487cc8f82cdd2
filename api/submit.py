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
    """The run of an order.

    Raises what the desk raises for an order that can never run, Conflict for an idempotency key of another order,
    RateLimited for a key that submits too often, Unavailable when Postgres cannot be reached. Nothing is stored then.
    """
    plan = desk(house).check(order)
    house.knocks.knock(order.key_id, order.rpm)
    submitted = runs.submit(house.ledger, order.as_run(plan))
    if submitted.is_new:
        house.broker.publish(plan, submitted.id)
    return submitted
