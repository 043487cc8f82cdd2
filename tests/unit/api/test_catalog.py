"""Health, providers and metrics."""

import re
from typing import Any


def test_a_healthy_api_says_so_in_the_shape_of_the_first_document(api: Any) -> None:
    body = api.client.get("/api/health").json()
    assert (body["status"], body["version"]) == ("healthy", "2.0.0")
    assert body["providers"] == len(api.client.get("/providers").json()["providers"])
    assert re.fullmatch(r"\d+h \d+m", body["uptime"])


def test_providers_are_shown_with_models_health_and_what_they_lack(api: Any) -> None:
    known = {one["id"]: one for one in api.client.get("/providers").json()["providers"]}
    sim, keyless = known["sim"], known["keyless"]
    assert (sim["enabled"], sim["ready"], sim["models"]) == (True, True, ["small", "large"])
    assert sim["health"].keys() == {"latency", "success_rate", "cost_per_token"}
    assert sim["health"]["cost_per_token"] == 0.000001
    assert (keyless["enabled"], keyless["ready"], keyless["reason"]) == (False, False, "disabled")
    assert known["unpriced"]["health"]["cost_per_token"] is None


def test_metrics_count_requests_by_route_and_open_runs(api: Any) -> None:
    run = api.submit()
    api.client.get(f"/v1/runs/{run}")
    api.client.get("/v1/runs/nonsense")
    api.client.get("/nowhere")
    text = api.client.get("/metrics").text
    assert 'goblin_http_requests_total{method="GET",path="/v1/runs/{run_id}",status="200"} 1.0' in text
    assert 'goblin_http_requests_total{method="GET",path="/v1/runs/{run_id}",status="404"} 1.0' in text
    assert 'goblin_http_requests_total{method="GET",path="unknown",status="404"} 1.0' in text
    assert 'goblin_runs{status="queued"} 1.0' in text
    assert run not in text
