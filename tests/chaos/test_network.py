"""The network fails between any two parts for half a minute, and Redis fails over to a replica that lacks what was
written last: all goes on by itself, and nothing is lost."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from goblin import kv
from tests.chaos.books import Calls, close
from tests.chaos.faults import Fault, Moment, do, last
from tests.chaos.test_mix import the_seed
from tests.chaos.town import Town, town
from tests.chaos.traffic import Traffic
from tests.processes import Processes, ValkeyContainer

pytestmark = pytest.mark.chaos

PAIRS = ("api-redis", "api-postgres", "s1-redis", "s1-postgres", "w1-redis", "w1-postgres", "w1-provider")
CUT_S, REST_S, BEHIND_S = 30.0, 6.0, 0.5


def test_the_network_between_any_two_parts_is_cut_for_half_a_minute(processes: Processes, tmp_path: Path) -> None:
    with town(processes, tmp_path) as place:
        calls, moments, seed = Calls(place), list[Moment](), the_seed()
        with Traffic(place, seed, opened=40) as traffic:
            place.until(lambda: len(traffic.orders) >= 20, 60)
            for pair in PAIRS:
                moments.append(do(place, Fault("lose", pair, CUT_S, REST_S)))
                print(f"\n{moments[-1].fault}")  # noqa: T201
                last(place, REST_S)
                calls.gather()
        print(f"GOBLIN_SEED={seed}")  # noqa: T201
        close(place, traffic.orders, moments, calls, patience=120)


@pytest.fixture
def replica(processes: Processes, tmp_path: Path) -> Iterator[ValkeyContainer]:
    home = tmp_path / "replica"
    home.mkdir()
    made = ValkeyContainer(processes, home, durable=True)
    made.ready()
    yield made
    made.teardown()


def test_redis_fails_over_to_a_replica_that_lacks_what_was_written_last(
    processes: Processes, tmp_path: Path, replica: ValkeyContainer
) -> None:
    with town(processes, tmp_path) as place:
        calls, seed = Calls(place), the_seed()
        with Traffic(place, seed, opened=40) as traffic:
            place.until(lambda: len(traffic.orders) >= 60, 60)
            moment = fail_over(place, replica)
            place.until(lambda: len(traffic.orders) >= 180, 120)
        print(f"\nGOBLIN_SEED={seed}")  # noqa: T201
        close(place, traffic.orders, [moment], calls, patience=120)


def fail_over(place: Town, replica: ValkeyContainer) -> Moment:
    """The replica follows, falls behind, and takes the place of a primary that dies."""
    primary, heir = make_url(place.env["REDIS_URL"]), kv.connect(replica.celeryconfig["url"])
    heir.config_set("masterauth", primary.password)
    heir.replicaof(str(primary.host), str(primary.port))
    place.until(lambda: heir.info("replication")["master_link_status"] == "up", 30)
    begun = time.time()
    heir.replicaof("NO", "ONE")
    last(place, BEHIND_S)
    place.valkey.kill("SIGKILL")
    heir.config_set("requirepass", primary.password)
    url = primary.set(port=make_url(replica.celeryconfig["url"]).port).render_as_string(hide_password=False)
    for (_, part), wire in place.wires.items():
        if part == "redis":
            wire.lead(url)
    place.redis = kv.connect(url)
    return Moment(Fault("fail over", "redis", 0, 0), begun, time.time())
