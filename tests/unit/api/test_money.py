"""Usage and budgets: sums over the ledger's entries."""

from collections.abc import Callable
from typing import Any

import pytest

from goblin import clock, kv
from ledger import keys
from routing.rebuild import Rebuild
from routing.script import Scripts
from tests.fakes.lines import begin


@pytest.fixture
def count(api: Any, redis_url: str) -> Callable[[], None]:
    """What the scheduler does when Redis has no counters."""

    def rebuild() -> None:
        with kv.connect(redis_url) as client:
            Rebuild(api.hand.ledger, Scripts(client)).rebuild()

    return rebuild


def spend(api: Any, model: str = "small", times: int = 1) -> None:
    for _ in range(times):
        run = api.submit()
        api.hand.end(run, api.hand.begin(run, model=model), "x")


def test_usage_is_summed_by_whatever_is_asked_for(api: Any) -> None:
    spend(api, "small")
    spend(api, "large", times=2)
    page = api.client.get("/v1/usage", params={"group_by": "model,provider"}).json()
    assert [(row["model"], row["provider"], row["calls"], row["cost_usd"]) for row in page["data"]] == [
        ("large", "sim", 2, "0.000008000"),
        ("small", "sim", 1, "0.000004000"),
    ]
    assert (page["total"]["calls"], page["total"]["cost_usd"], page["truncated"]) == (3, "0.000012000", False)
    assert page["total"]["usage"]["output"] == 6


def test_usage_by_day_is_in_utc(api: Any) -> None:
    spend(api)
    page = api.client.get("/v1/usage", params={"group_by": "day,key"}).json()
    assert page["data"][0]["day"] == clock.now().date().isoformat()


def test_nothing_used_is_zero(api: Any) -> None:
    page = api.client.get("/v1/usage").json()
    assert page["data"] == []
    assert (page["total"]["calls"], page["total"]["cost_usd"]) == (0, "0.000000000")


def test_usage_of_a_time_that_has_not_come_is_zero(api: Any) -> None:
    spend(api)
    page = api.client.get("/v1/usage", params={"since": "2999-01-01T00:00:00Z"}).json()
    assert page["total"]["calls"] == 0


def test_an_unknown_grouping_names_the_nearest(api: Any) -> None:
    answer = api.client.get("/v1/usage", params={"group_by": "provider,modle"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "unknown grouping 'modle'; did you mean model?"


def test_budgets_show_what_is_spent_and_what_is_held(api: Any, count: Callable[[], None]) -> None:
    spend(api)
    api.hand.begin(api.submit())
    count()
    hour, day = api.client.get("/v1/budgets").json()["data"]
    assert (hour["name"], hour["limit_usd"], hour["spent_usd"], hour["held_usd"], hour["remaining_usd"]) == (
        "all/hour",
        "10.000000000",
        "0.000004000",
        "0.000005000",
        "9.999991000",
    )
    assert (day["name"], day["limit_usd"]) == ("all/day", "50.000000000")
    assert hour["resets_at"] <= day["resets_at"]


def test_budgets_are_metrics_while_somebody_counts(api: Any, count: Callable[[], None]) -> None:
    assert "goblin_budget_usd{" not in api.client.get("/metrics").text
    spend(api)
    count()
    lines = api.client.get("/metrics").text.splitlines()
    assert 'goblin_budget_usd{amount="limit",budget="all/hour"} 10.0' in lines
    assert 'goblin_budget_usd{amount="spent",budget="all/day"} 4e-06' in lines


def test_budgets_are_not_made_up_while_nobody_counts(api: Any) -> None:
    answer = api.client.get("/v1/budgets")
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
    assert answer.headers["retry-after"]


def test_a_key_sees_its_own_budget(api: Any, count: Callable[[], None]) -> None:
    secret = keys.create(api.hand.ledger, "poor", keys.Limits(budget=1_500_000_000))
    keys.create(api.hand.ledger, "rich")
    count()
    headers = {"Authorization": f"Bearer {secret}"}
    names = {one["name"]: one["limit_usd"] for one in api.client.get("/v1/budgets", headers=headers).json()["data"]}
    assert names["key"] == "1.500000000"


def test_a_batch_under_way_shows_what_is_left_of_its_budget(api: Any, count: Callable[[], None]) -> None:
    batch = begin(api.hand.ledger, [b"{}"], budget=2_000_000_000)
    begin(api.hand.ledger, [b"{}"])
    spend(api)
    with api.hand.ledger.engine.connect() as connection:
        connection.exec_driver_sql("update runs set batch_id = %s", (batch,))
    count()
    *_, last = api.client.get("/v1/budgets").json()["data"]
    assert (last["name"], last["limit_usd"], last["spent_usd"], last["resets_at"]) == (
        f"batch_{batch.hex}",
        "2.000000000",
        "0.000004000",
        None,
    )


def test_a_key_submits_no_more_often_than_it_may(api: Any) -> None:
    secret = keys.create(api.hand.ledger, "slow", keys.Limits(rpm=2))
    headers = {"Authorization": f"Bearer {secret}"}
    answers = [api.client.post("/v1/runs", json={"workflow": "chat: hi"}, headers=headers) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[2].json()["type"] == "/problems/rate_limited"
    assert 0 < int(answers[2].headers["retry-after"]) <= 60
    assert len(api.client.get("/v1/runs", headers=headers).json()["data"]) == 2
