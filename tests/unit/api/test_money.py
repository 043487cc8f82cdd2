"""Usage and budgets: sums over the ledger's entries."""

from typing import Any

from goblin import clock


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


def test_budgets_show_what_is_spent_and_what_is_held(api: Any) -> None:
    spend(api)
    api.hand.begin(api.submit())
    hour, day = api.client.get("/v1/budgets").json()["data"]
    assert (hour["name"], hour["limit_usd"], hour["spent_usd"], hour["held_usd"], hour["remaining_usd"]) == (
        "hour",
        "10.000000000",
        "0.000004000",
        "0.000005000",
        "9.999991000",
    )
    assert (day["name"], day["limit_usd"]) == ("day", "50.000000000")
