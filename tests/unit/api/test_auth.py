"""Keys, and an API without any."""

from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from api.auth import refuse_open_listening
from goblin.errors import ConfigError, Conflict
from goblin.settings import Settings
from ledger import keys

SECRET = "a-secret-of-the-environment"


def bearer(secret: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_without_any_key_the_api_is_open_to_its_machine(api: Any) -> None:
    assert api.client.get("/v1/runs").status_code == 200


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
def test_without_any_key_pages_from_elsewhere_are_not_served(api: Any, headers: Mapping[str, str]) -> None:
    assert api.client.get("/v1/runs", headers=headers).status_code == 401


@pytest.mark.parametrize(
    "headers", [{"Host": "localhost:3001"}, {"Host": "[::1]"}, {"Origin": "http://localhost:1420"}]
)
def test_without_any_key_pages_of_this_machine_are_served(api: Any, headers: Mapping[str, str]) -> None:
    assert api.client.get("/v1/runs", headers=headers).status_code == 200


def test_with_a_key_nobody_comes_in_without(api: Any) -> None:
    keys.create(api.hand.ledger, "ci")
    answer = api.client.get("/v1/runs")
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert api.client.get("/v1/runs", headers=bearer("gob_wrong")).status_code == 401
    assert api.client.get("/api/health").status_code == 200


def test_a_run_is_seen_only_by_its_key(api: Any) -> None:
    ours, theirs = (bearer(keys.create(api.hand.ledger, name)) for name in ("ours", "theirs"))
    run = api.client.post("/v1/runs", json={"workflow": "chat: hi"}, headers=ours).json()["id"]
    assert api.client.get(f"/v1/runs/{run}", headers=ours).status_code == 200
    for path in ("", "/events", "/decisions"):
        assert api.client.get(f"/v1/runs/{run}{path}", headers=theirs).status_code == 404
    assert api.client.post(f"/v1/runs/{run}/cancel", headers=theirs).status_code == 404
    assert api.client.get(f"/api/route_task_stream_poll/stream_{run}", headers=theirs).status_code == 404
    assert api.client.get("/v1/runs", headers=theirs).json()["data"] == []
    assert len(api.client.get("/v1/runs", headers=ours).json()["data"]) == 1


def test_two_keys_may_use_the_same_idempotency_key(api: Any) -> None:
    runs = set()
    for name in ("ours", "theirs"):
        headers = {**bearer(keys.create(api.hand.ledger, name)), "Idempotency-Key": "same"}
        runs.add(api.client.post("/v1/runs", json={"workflow": "chat: hi"}, headers=headers).json()["id"])
    assert len(runs) == 2


def test_a_revoked_key_opens_nothing_and_does_not_open_the_api(api: Any) -> None:
    secret = keys.create(api.hand.ledger, "old")
    keys.revoke(api.hand.ledger, "old")
    assert api.client.get("/v1/runs", headers=bearer(secret)).status_code == 401
    assert api.client.get("/v1/runs").status_code == 401


def test_only_the_digest_of_a_secret_is_kept(hand: Any) -> None:
    secret = keys.create(hand.ledger, "ci")
    assert secret.startswith("gob_")
    found = keys.find(hand.ledger, keys.digest(secret))
    assert found is not None
    assert (found.name, found.revoked_at) == ("ci", None)
    with pytest.raises(Conflict):
        keys.create(hand.ledger, "ci")


class TestWithASecretInTheEnvironment:
    @pytest.fixture
    def environ(self) -> dict[str, str]:
        return {"GOBLIN_API_KEY": SECRET}

    def test_it_opens_the_api_and_nothing_else_does(self, api: Any) -> None:
        assert api.client.get("/v1/runs").status_code == 401
        assert api.client.get("/v1/runs", headers=bearer(SECRET)).status_code == 200
        assert [key.name for key in keys.all_keys(api.hand.ledger)] == ["env"]

    def test_a_changed_secret_replaces_the_one_before(self, api: Any, settings: Settings, serve: Any) -> None:
        api.client.get("/v1/runs", headers=bearer(SECRET))
        with serve(settings, {"GOBLIN_API_KEY": "another-long-secret"}) as url:
            assert httpx.get(f"{url}/v1/runs", headers=bearer("another-long-secret")).status_code == 200
            assert httpx.get(f"{url}/v1/runs", headers=bearer(SECRET)).status_code == 401


def elsewhere(settings: Settings) -> Settings:
    return settings.model_copy(update={"server": settings.server.model_copy(update={"host": "0.0.0.0"})})


def test_an_open_api_does_not_listen_elsewhere(settings: Settings, hand: Any) -> None:
    refuse_open_listening(settings, hand.ledger, {})
    with pytest.raises(ConfigError, match="GOBLIN_API_KEY"):
        refuse_open_listening(elsewhere(settings), hand.ledger, {})
    refuse_open_listening(elsewhere(settings), hand.ledger, {"GOBLIN_API_KEY": SECRET})
    keys.create(hand.ledger, "ci")
    refuse_open_listening(elsewhere(settings), hand.ledger, {})
