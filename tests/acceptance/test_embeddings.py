"""Vectors over HTTP, as OpenAI's own client asks for them: admitted, entered in the ledger, held against budgets."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from cli.embedded import Stack
from cli.servers import free_port
from ledger import attempts, keys
from routing.script import PREFIX
from tests.processes import PATIENCE_S, Processes
from tests.world import Sim, World, world

EMBEDS: dict[str, Any] = {"retry_count": 0}
SIMS = (Sim("talks"),)


def vendor(port: int, name: str, model: str, dialect: str = "openai", path: str = "openai/v1", more: str = "") -> str:
    return f"""
[providers.{name}]
dialect = "{dialect}"
base_url = "http://127.0.0.1:{port}/at/{name}/{path}"
api_key = "test"
models = []
embedding_models = [{{id = "{model}", input_usd_mtok = "0.02"}}]
{more}
"""


@dataclass(frozen=True)
class Served:
    world: World
    url: str
    http: httpx.Client

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S)

    def entries(self, run: str) -> list[Any]:
        return self.world.all("select * from entries where run_id = %s", run)


@pytest.fixture(scope="module")
def served(
    processes: Processes, stack: Stack, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("embeddings")
    redis_url = stack.redis_url.rsplit("/", 1)[0] + "/13"
    with world(processes, folder, database_url, redis_url, *SIMS) as installed:
        config = folder / "goblin.toml"
        port = installed.port
        config.write_text(
            config.read_text()
            + vendor(port, "first", "sim-embed", more="priority = 1")
            + vendor(port, "second", "sim-embed", "cohere", "cohere")
            + vendor(port, "failing", "sim-embed+fail=503", more="retry_count = 0")
            + vendor(port, "resetting", "sim-embed+reset", more="retry_count = 0")
            + vendor(port, "slow", "sim-embed+fail=429+after=9", more="retry_count = 0")
            + vendor(port, "late", "sim-embed+ttft=3")
            + vendor(port, "poor", "sim-embed+ttft=0", more='budget_hourly = "0.000000001"')
        )
        installed.redis.flushdb()
        installed.start_worker()
        at = free_port()
        installed.start_api(at)
        with httpx.Client(base_url=f"http://127.0.0.1:{at}", timeout=PATIENCE_S, trust_env=False) as client:
            yield Served(installed, f"http://127.0.0.1:{at}", client)


def test_openais_client_gets_vectors_in_both_encodings(served: Served) -> None:
    texts = ["red fox", "red fox", "blue sky"]
    floats = served.client.embeddings.create(model="sim-embed", input=texts, encoding_format="float")
    packed = served.client.embeddings.create(model="sim-embed", input=texts)
    assert [row.index for row in floats.data] == [0, 1, 2]
    assert floats.data[0].embedding == floats.data[1].embedding != floats.data[2].embedding
    assert packed.data[2].embedding == pytest.approx(floats.data[2].embedding)
    assert math.hypot(*floats.data[0].embedding) == pytest.approx(1)


def test_one_text_and_fewer_dimensions_are_served(served: Served) -> None:
    found = served.client.embeddings.create(model="first/sim-embed", input="red fox", dimensions=16)
    assert len(found.data[0].embedding) == 16


def test_the_call_is_entered_to_the_nano_dollar(served: Served) -> None:
    served.world.sim_post("reset", {})
    found = served.client.embeddings.create(model="sim-embed", input=["word " * 700, "sky"])
    billed = served.world.sim_get("invoice")
    run = found.model_extra["run_id"] if found.model_extra else ""
    (entry,) = served.entries(run)
    assert entry.amount_nanousd == billed["nanousd"] > 0
    assert (entry.is_measured, entry.input_tokens, entry.output_tokens) == (True, billed["input_tokens"], 0)
    assert found.usage.prompt_tokens == billed["input_tokens"]
    shown = served.http.get(f"/v1/runs/{run}").json()
    assert (shown["status"], shown["cost_usd"]) == ("succeeded", f"{billed['nanousd'] / 1e9:.9f}")
    usage = served.http.get("/v1/usage", params={"group_by": "goblin"}).json()["data"]
    assert Decimal(next(one["cost_usd"] for one in usage if one["goblin"] == "/v1/embeddings")) > 0


def test_counters_that_the_ledger_does_not_know_are_not_asked_without_end(served: Served) -> None:
    """As after a failover of Postgres that lost its last moments; there is no scheduler to count anew."""
    redis, generation = served.world.redis, f"{PREFIX}:generation"
    known = redis.get(generation)
    redis.set(generation, "unknown")
    try:
        with pytest.raises(openai.InternalServerError, match="rebuilt") as refused:
            served.client.embeddings.create(model="sim-embed", input="red fox")
    finally:
        redis.set(generation, known)
    assert refused.value.status_code == 503


def test_a_provider_may_be_pinned_and_another_dialect_serves(served: Served) -> None:
    found = served.client.embeddings.create(model="second/sim-embed", input=[f"text {n}" for n in range(130)])
    assert len(found.data) == 130
    assert (found.model_extra or {})["provider"] == "second"


def test_another_provider_of_the_model_steps_in(served: Served) -> None:
    served.world.sim_post("faults", {"name": "first", "model": "*", "directives": "+fail=500"})
    try:
        found = served.client.embeddings.create(model="sim-embed", input="red fox")
    finally:
        served.world.sim_post("faults", {"name": "first", "model": "*", "directives": ""})
    assert (found.model_extra or {})["provider"] == "second"


@pytest.mark.parametrize(
    ("model", "status", "slug"),
    [
        ("failing/sim-embed+fail=503", 502, "overloaded"),
        ("slow/sim-embed+fail=429+after=9", 429, "throttled"),
        ("poor/sim-embed+ttft=0", 402, "budget_exhausted"),
        ("sim-embd", 422, "unknown_name"),
        ("sim-instant", 422, "unknown_name"),
    ],
)
def test_what_cannot_be_served_says_why_and_costs_nothing(served: Served, model: str, status: int, slug: str) -> None:
    before = served.world.one("select count(*) as n, coalesce(sum(amount_nanousd), 0) as spent from entries")
    with pytest.raises(openai.APIStatusError) as caught:
        served.client.embeddings.create(model=model, input="red fox " * 200)
    assert (caught.value.status_code, caught.value.response.json()["type"]) == (status, f"/problems/{slug}")
    assert served.world.one("select count(*) as n, coalesce(sum(amount_nanousd), 0) as spent from entries") == before
    assert served.world.one("select from runs where status in ('queued', 'running')") is None


def test_a_vendor_that_was_asked_and_hung_up_may_send_a_bill(served: Served) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        served.client.embeddings.create(model="resetting/sim-embed+reset", input="red fox " * 200)
    assert (caught.value.status_code, caught.value.response.json()["type"]) == (502, "/problems/unreachable")
    (entry,) = served.world.all("select * from entries where provider = 'resetting'")
    assert not entry.is_measured
    assert entry.amount_nanousd > 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"model": "sim-embed"}, "input"),
        ({"model": "sim-embed", "input": []}, "input"),
        ({"model": "sim-embed", "input": [""]}, "input"),
        ({"model": "sim-embed", "input": [[1, 2]]}, "input"),
        ({"model": "sim-embed", "input": ["x"] * 2049}, "input"),
        ({"model": "sim-embed", "input": "x", "dimension": 3}, ""),
        ({"model": "sim-embed", "input": "x", "dimensions": 0}, "dimensions"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(served: Served, body: dict[str, Any], field: str) -> None:
    answer = served.http.post("/v1/embeddings", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].startswith(field)


def test_an_embedding_that_nobody_lived_to_finish_is_closed_by_a_worker_and_makes_no_call(served: Served) -> None:
    """As if the API had died between storing its run and making the call."""
    from api.embed import plan_of
    from ledger import runs
    from ledger.runs import NewRun, NewStep
    from routing.candidate import Need
    from workers.canvas import publish

    served.world.sim_post("reset", {})
    plan = plan_of(1, Need("fast", 1, 0, None, "sim-embed", vectors=True))
    run = runs.submit(
        served.world.ledger, NewRun("/v1/embeddings", plan.as_value(), {}, {}, [NewStep("/v1/embeddings", "x", ())])
    ).id
    publish(served.world.app, plan, run, 1)
    assert served.world.finished(run).status == "failed"
    assert served.world.sim_get("calls") == []


AWAY = """
create function away() returns trigger language plpgsql as $$ begin
    raise exception 'terminating connection' using errcode = '57P01';
end $$;
create trigger away before update on runs for each row
    when (new.finished_at is not null and old.finished_at is null and new.open_steps = old.open_steps)
    execute function away()
"""


def test_what_was_paid_for_is_handed_out_though_postgres_goes_away_at_once(served: Served) -> None:
    """The end of the run is written down with that of its call, or with the reason why nobody is called."""
    postgres = served.world.ledger.engine
    with postgres.connect() as connection:
        connection.exec_driver_sql(AWAY)
    try:
        answers = [
            served.http.post("/v1/embeddings", json={"model": model, "input": "red fox"})
            for model in ("first/sim-embed", "poor/sim-embed+ttft=0")
        ]
    finally:
        with postgres.connect() as connection:
            connection.exec_driver_sql("drop function away cascade")
    assert [answer.status_code for answer in answers] == [200, 402]
    ended = "select status from runs where workflow = '/v1/embeddings' order by id desc limit 2"
    assert [row.status for row in served.world.all(ended)] == ["failed", "succeeded"]


def test_what_a_call_has_cost_that_was_given_up_too_early_is_counted_as_it_is_entered(served: Served) -> None:
    """As when the API slept for longer than its lease, and woke up with the answer."""
    world = served.world

    def give_up() -> bool:
        lost = "update attempts set lease_until = now() - interval '1 second' where provider = 'late' returning id"
        return bool(world.all(lost)) and bool(attempts.abandon(world.ledger, calm=0, limit=1))

    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(served.client.embeddings.create, model="late/sim-embed+ttft=3", input="red fox " * 200)
        world.until(give_up)
        with pytest.raises(openai.InternalServerError, match="taken over") as lost:
            asking.result()
    assert lost.value.status_code == 503
    charge, correction = world.all("select * from entries where provider = 'late' order by id")
    assert (correction.kind, correction.is_measured) == ("correction", True)
    assert charge.amount_nanousd > charge.amount_nanousd + correction.amount_nanousd > 0
    names: Any = world.redis.keys("*:holds")
    assert all(world.redis.zscore(name, str(charge.attempt_id)) is None for name in names)


def test_a_key_pays_for_its_own_vectors_and_no_more_than_its_budget(served: Served) -> None:
    """The last test here: once there is a key, the API is closed to everybody without one."""

    def client(name: str, budget: int | None) -> openai.OpenAI:
        secret = keys.create(served.world.ledger, name, keys.Limits(budget=budget))
        return openai.OpenAI(base_url=f"{served.url}/v1", api_key=secret, max_retries=0)

    rich, poor = client("rich", None), client("poor", 5)
    served.world.until(lambda: served.http.get("/v1/runs").status_code == 401)
    found = rich.embeddings.create(model="sim-embed", input="red fox")
    run = (found.model_extra or {})["run_id"]
    (owner,) = served.world.all("select k.name from entries e join keys k on k.id = e.key_id where e.run_id = %s", run)
    assert owner.name == "rich"
    with pytest.raises(openai.APIStatusError) as caught:
        poor.embeddings.create(model="sim-embed", input="red fox " * 200)
    assert caught.value.status_code == 402
