"""What a vendor allows is kept by several workers together, also when only the vendor knows it."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cli.embedded import Stack
from tests.fakes.load import jain, make_keys, submit
from tests.processes import Processes
from tests.world import Sim, World, world

TOKENS = 40
EXTRA = f"""
[worker]
lease = 3
[goblins.chat]
instructions = "x"
task_class = "fast"
max_output_tokens = {2 * TOKENS}
"""
MODEL = f"sim-instant+ttft=0.1+tokens={TOKENS}"
LIMITS = {"rpm": 150, "tpm": 9_000}
SIMS = (
    Sim("known", (MODEL,), options=LIMITS),
    Sim("unknown", (MODEL,)),
    Sim("claude", (MODEL,), "anthropic"),
    Sim("shared", (MODEL,)),
)


@pytest.fixture(scope="module")
def place(
    processes: Processes, stack: Stack, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("rates")
    redis_url = f"{stack.redis_url.rpartition('/')[0]}/12"
    with world(processes, folder, database_url, redis_url, *SIMS, extra=EXTRA) as made:
        made.redis.flushdb()
        for number in range(3):
            made.start_worker(f"w{number}")
        made.start_scheduler()
        yield made


def test_a_limit_that_is_configured_is_never_met(place: World) -> None:
    place.sim_post("limits", {"name": "known", **LIMITS})
    keys = make_keys(place, {"one": 1.0, "two": 1.0})
    made = [run for key in keys.values() for run in submit(place, "chat@known: hello", 15, key)]
    assert {place.finished(run).status for run in made} == {"succeeded"}
    seen = place.sim_get("limits")["known"]
    assert (seen["refused"], seen["calls"]) == (0, len(made))
    rows = place.all("select count(*) as n from attempts where provider = 'known' group by owner")
    workers = [row.n for row in rows]
    print(f"\n{len(made)} calls, none refused; Jain's index {jain(workers):.3f} over {len(workers)} workers")  # noqa: T201
    assert len(workers) == 3


@pytest.mark.parametrize("name", ["unknown", "claude"])
def test_a_limit_that_only_the_vendor_knows_is_kept_once_it_was_said(place: World, name: str) -> None:
    place.sim_post("limits", {"name": name, "rpm": 30})
    hear(place, name)
    made = submit(place, f"chat@{name}: hello", 36)
    place.until(lambda: waiting(place, made) >= 28)
    seen = place.sim_get("limits")[name]
    assert seen["refused"] == 0
    assert seen["calls"] <= 12


def test_what_others_send_with_the_same_key_counts_by_the_vendor_s_word(place: World) -> None:
    place.sim_post("limits", {"name": "shared", "rpm": 30})
    url = f"http://127.0.0.1:{place.port}/at/shared/openai/v1/chat/completions"
    asked = {"model": "sim-instant", "messages": [{"role": "user", "content": "hello"}]}
    with httpx.Client(headers={"authorization": "Bearer test"}, trust_env=False) as other:
        for _ in range(27):
            other.post(url, json=asked).raise_for_status()
    hear(place, "shared")
    made = submit(place, "chat@shared: hello", 6)
    place.until(lambda: waiting(place, made) == 4, 8)
    seen = place.sim_get("limits")["shared"]
    assert (seen["calls"], seen["refused"]) == (30, 0)


def hear(place: World, name: str) -> None:
    """Make one call, and return when all know what its answer said."""
    (first,) = submit(place, f"chat@{name}: hello", 1)
    assert place.finished(first).status == "succeeded"
    place.until(lambda: place.redis.hget(f"{{goblin}}:breaker:{name}/{MODEL}", "learned_until"))


def waiting(place: World, made: list[uuid.UUID]) -> int:
    row = place.one("select count(*) as n from steps where status = 'waiting' and run_id = any(%s)", made)
    return int(row.n) if row else 0
