"""Redis away, Postgres away: servers of the test's own are killed under real work; nothing is lost or half there."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cli.migrate import upgrade
from cli.servers import free_port
from routing.script import PREFIX
from tests.processes import PATIENCE_S, PostgresContainer, Processes, ValkeyContainer
from tests.world import Sim, World, saying, world

SIMS = (Sim("quick", (saying("done"),)), Sim("slow", (f"{saying('done at last')}+ttft=2",)))
QUICK = "[worker]\nlease = 3\n"
EMBEDS = """
[providers.embeds]
base_url = "http://127.0.0.1:{port}/at/embeds/openai/v1"
api_key = "test"
models = []
embedding_models = [{{id = "sim-embed+ttft=2", input_usd_mtok = "0.02"}}]
"""


@contextmanager
def client_of(place: World) -> Iterator[httpx.Client]:
    port = free_port()
    place.start_api(port)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=2 * PATIENCE_S, trust_env=False) as client:
        yield client


@pytest.fixture
def valkey(processes: Processes, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ValkeyContainer]:
    valkey = ValkeyContainer(processes, tmp_path, durable=getattr(request, "param", False))
    valkey.ready()
    yield valkey
    valkey.teardown()


@pytest.fixture
def postgres(processes: Processes) -> Iterator[PostgresContainer]:
    postgres = PostgresContainer(processes)
    postgres.ready()
    upgrade(postgres.url, wait_s=0)
    yield postgres
    postgres.teardown()


@pytest.mark.parametrize("valkey", [False, True], ids=["without its data", "with its data"], indirect=True)
def test_what_is_submitted_while_redis_is_away_runs_when_it_is_back(
    processes: Processes, database: str, valkey: ValkeyContainer, tmp_path: Path
) -> None:
    redis_url = valkey.celeryconfig["url"]
    with world(processes, tmp_path, database, redis_url, *SIMS, extra=QUICK) as place, client_of(place) as client:
        place.start_worker()
        place.start_scheduler()
        under_way = client.post("/v1/runs", json={"workflow": "chat@slow: one THEN chat@quick: two"}).json()["id"]
        place.until(lambda: place.one("select 1 from attempts where status = 'open'"))
        valkey.kill("SIGKILL")
        answer = client.post("/v1/runs", json={"workflow": "chat@quick: a AND chat@quick: b THEN chat@quick: c"})
        assert answer.status_code == 202
        assert client.get("/api/health").json()["status"] == "degraded"
        assert client.get(answer.headers["location"]).json()["status"] == "queued"
        valkey.start()
        valkey.ready()
        for run in (under_way, answer.json()["id"]):
            assert place.finished(uuid.UUID(run), 2 * PATIENCE_S).status == "succeeded"
        charged = place.all("select run_id, idx from entries where kind = 'charge'")
        assert len(charged) == len(set(charged)) == 5
        place.until(lambda: client.get("/api/health").json()["status"] == "healthy")


def test_while_postgres_is_away_callers_come_back_later_and_workers_keep_what_they_have(
    processes: Processes, postgres: PostgresContainer, redis_url: str, tmp_path: Path
) -> None:
    with world(processes, tmp_path, postgres.url, redis_url, *SIMS, extra=QUICK) as place, client_of(place) as client:
        place.start_worker()
        place.start_scheduler()
        run = client.post("/v1/runs", json={"workflow": "chat@slow: one THEN chat@quick: two"}).json()["id"]
        place.until(lambda: place.one("select 1 from attempts where status = 'open'"))
        postgres.kill("SIGINT")
        order = {"json": {"workflow": "chat@quick: later"}, "headers": {"Idempotency-Key": "later"}}
        refused = client.post("/v1/runs", **order)  # type: ignore[arg-type]
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
        assert int(refused.headers["retry-after"]) > 0
        assert client.get(f"/v1/runs/{run}").status_code == 503
        assert client.get("/api/health").status_code == 503
        place.until(lambda: place.sim_get("calls"))  # the answer is whole, and nobody can write it down
        postgres.start()
        postgres.ready()
        assert place.finished(uuid.UUID(run), 2 * PATIENCE_S).status == "succeeded"
        assert [row.id.hex for row in place.all("select id from runs")] == [uuid.UUID(run).hex]
        assert client.post("/v1/runs", **order).status_code == 202  # type: ignore[arg-type]
        attempts = place.all("select idx, status from attempts where run_id = %s order by idx", uuid.UUID(run))
        assert [tuple(row) for row in attempts] == [(0, "succeeded"), (1, "succeeded")]
        assert all(entry.is_measured for entry in place.all("select is_measured from entries"))


def test_vectors_whose_end_cannot_be_written_down_are_paid_for_when_postgres_is_back(
    processes: Processes, postgres: PostgresContainer, redis_url: str, tmp_path: Path
) -> None:
    with world(processes, tmp_path, postgres.url, redis_url, *SIMS, extra=QUICK) as place:
        config = tmp_path / "goblin.toml"
        config.write_text(config.read_text() + EMBEDS.format(port=place.port))
        with client_of(place) as client, ThreadPoolExecutor(1) as other:
            place.start_scheduler()
            place.until(lambda: place.redis.get("goblin:marker") and place.redis.get(f"{PREFIX}:generation"))
            order = {"model": "sim-embed+ttft=2", "input": "red fox " * 100}
            asked = other.submit(client.post, "/v1/embeddings", json=order)
            place.until(lambda: place.one("select 1 from attempts where status = 'open'"))
            postgres.kill("SIGINT")
            answer = asked.result()
            assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
            assert int(answer.headers["retry-after"]) > 0
            (call,) = place.sim_get("calls")  # it was made, and its bill will come
            postgres.start()
            postgres.ready()
            place.all("update attempts set lease_until = now() returning 1")  # half a minute after its longest call
            place.start_worker()
            place.until(lambda: place.one("select 1 from runs where status = 'failed'"))
            (attempt,) = place.all("select status, hold_nanousd as held from attempts")
            (entry,) = place.all("select kind, is_measured, amount_nanousd as amount, price from entries")
            assert (attempt.status, entry.kind, entry.is_measured) == ("abandoned", "charge", False)
            assert entry.amount == attempt.held >= call["nanousd"] > 0
            assert entry.price
            spent = f"{entry.amount / 1e9:.9f}"
            place.until(lambda: {spent} == {one["spent_usd"] for one in budgets(client)})
            assert {one["held_usd"] for one in budgets(client)} == {"0.000000000"}


def budgets(client: httpx.Client) -> list[dict[str, str]]:
    found: list[dict[str, str]] = client.get("/v1/budgets").json()["data"]
    return found
