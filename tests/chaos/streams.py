"""What somebody is told who listens to a run from its beginning, after whatever befell the installation."""

from collections.abc import Sequence

import httpx

from tests.chaos.order import Order
from tests.chaos.town import Town
from tests.listener import Told, events, text_of

LISTENED = 60  # runs, spread over all


def check_streams(place: Town, orders: Sequence[Order]) -> str:
    """A stream is whole: steps end in it as in the ledger, texts are those of the answers, the run's end is last."""
    chosen = orders[:: max(1, len(orders) // LISTENED)]
    with httpx.Client(base_url=f"http://127.0.0.1:{place.api_port}", timeout=30, trust_env=False) as client:
        wrong = {order.run: found for order in chosen if (found := _complaint(client, order))}
    assert not wrong, f"streams that are not whole: {wrong}"
    return f"{len(chosen)} streams heard whole"


def _complaint(client: httpx.Client, order: Order) -> str | None:
    told = list(events(client, str(order.run)))
    shown = client.get(f"/v1/runs/{order.run}").raise_for_status().json()
    if not told or told[-1][1] != "run.finished" or told[-1][2]["outcome"] != shown["outcome"]:
        return f"does not end with {shown['outcome']}: {told[-3:]}"
    ended = {data["step"]: data["outcome"] for _, kind, data in told if kind == "step.finished"}
    steps = {step["id"]: step["outcome"] for step in shown["steps"]}
    if ended != steps:
        return f"its steps ended as {ended}, not as {steps}"
    texts = {step["id"]: step["output"] for step in shown["steps"] if step["outcome"] == "succeeded"}
    strayed = {step: text_of(told, step) for step, text in texts.items() if text_of(told, step) != text}
    return f"its texts are {strayed}, not {texts}: {_short(told)}" if strayed else None


def _short(told: Sequence[Told]) -> list[tuple[str, str | None]]:
    return [(kind, data.get("step")) for _, kind, data in told]
