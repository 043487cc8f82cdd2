"""How soon a provider sees calls hang up when a run or step is cancelled over HTTP, in whatever they are doing."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from cli.servers import free_port
from tests.chaos.books import share
from tests.fakes.runs import assert_books_balance
from tests.fakes.situations import AWAY, EXTRA, OF_A_STEP, SIMS, SITUATIONS, Situation, begin, stop
from tests.fakes.wire import Wire
from tests.processes import PATIENCE_S, Processes
from tests.world import World, world

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]
STREAMS = SITUATIONS["while it streams"]
ROUNDS, AWAY_ROUNDS = 20, 6
HEARD_S, DEAF_S = 1.0, 4.0  # the 99th of a hundred; and the last of those of whom Redis cannot tell


@pytest.fixture
def place(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Iterator[World]:
    with world(processes, tmp_path, database, redis_url, *SIMS, extra=EXTRA) as made:
        made.start_scheduler()
        yield made
        assert_books_balance(made.ledger)


def test_a_cancel_is_seen_by_the_provider_within_a_second(place: World) -> None:
    port = free_port()
    with Wire(place.env["REDIS_URL"]) as wire:
        place.start_worker("w1", env={**place.env, "REDIS_URL": wire.url})
        place.start_api(port)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as api:
            heard = [
                lag
                for name, situation in {**SITUATIONS, **OF_A_STEP}.items()
                for lag in measured(place, api, name, situation, ROUNDS)
            ]
            deaf = [
                lag
                for how, leave in AWAY.items()
                for lag in measured(place, api, f"Redis {how}", STREAMS, AWAY_ROUNDS, wire, leave)
            ]
    assert share(sorted(heard), 0.99) < HEARD_S
    assert max(deaf) < DEAF_S


def measured(
    place: World,
    api: httpx.Client,
    name: str,
    situation: Situation,
    rounds: int,
    wire: Wire | None = None,
    leave: Callable[[Wire], None] = Wire.mend,
) -> list[float]:
    lags: list[float] = []
    for _ in range(rounds):
        run = begin(place, situation)
        if wire is not None:
            leave(wire)
        lags += stop(place, api, run, situation)
        if wire is not None:
            wire.cut()
            wire.mend()
        place.finished(run)
    lags.sort()
    print(  # noqa: T201
        f"\n{name}: {rounds} cancels, {len(lags)} calls, hung up after p50 {share(lags, 0.5):.3f} s,"
        f" p99 {share(lags, 0.99):.3f} s, at most {lags[-1]:.3f} s"
    )
    return lags
