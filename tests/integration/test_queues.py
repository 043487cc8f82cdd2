"""Workers that call some providers only: calls are handed over by queues, which may be emptied or taken by nobody."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from goblin.clock import now_ms
from ledger import attempts, runs
from ledger.attempts import Ending
from ledger.states import AttemptStatus, StepStatus
from routing.script import Scripts
from tests.fakes.offers import provider
from tests.fakes.runs import assert_books_balance, claim
from tests.processes import Processes
from tests.world import Sim, World, world
from workers.app import STEPS, provider_queue
from workers.canvas import publish

QUICK = "[worker]\nlease = 3\n[routing]\nhealth_check_interval = 600\n"
NEAR, FAR = provider_queue("near"), provider_queue("far")


@pytest.fixture
def place(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> Iterator[World]:
    sims = (Sim("near", options={"priority": 1}), Sim("far", ("sim-instant+ttft=1",), options={"priority": 2}))
    with world(processes, tmp_path, database, redis_url, *sims, extra=QUICK) as made:
        made.start_scheduler()
        made.start_worker("steps", queues=(STEPS, FAR))
        yield made
        assert_books_balance(made.ledger)


def tries(place: World, run: uuid.UUID) -> list[tuple[str, str, str | None]]:
    sql = "select provider, status, error ->> 'type' as error from attempts where run_id = %s order by id"
    return [(row.provider, row.status, row.error) for row in place.all(sql, run)]


def handed_over(place: World, count: int) -> None:
    place.until(lambda: place.redis.llen(NEAR) == count)


def test_a_call_whose_message_was_lost_is_missed_once_the_queue_was_drained_past_it(place: World) -> None:
    runs = [place.submit(place.plan("chat@near: one THEN chat@far: two")) for _ in range(3)]
    handed_over(place, 3)
    place.redis.delete(NEAR)
    place.start_worker("near", queues=(NEAR,))
    assert [place.finished(run).status for run in runs] == ["succeeded"] * 3
    for run in runs:
        assert tries(place, run)[0] == ("near", "abandoned", "abandoned")
        assert set(tries(place, run)[1:]) == {("near", "succeeded", None), ("far", "succeeded", None)}
    assert place.all("select 1 from entries where amount_nanousd = 0") == []
    kept = place.all("select distinct provider, decision ->> 'key' as key from attempts order by provider")
    fingerprint = provider(key=SecretStr("test")).fingerprint
    assert [(row.provider, row.key) for row in kept] == [("far", fingerprint), ("near", fingerprint)]


def test_calls_that_lie_in_a_queue_are_not_lost_while_its_worker_starts_again(place: World) -> None:
    near = place.start_worker("near", queues=(NEAR,))
    near.kill("SIGKILL")
    runs = [place.submit(place.plan("chat@near: one")) for _ in range(3)]
    handed_over(place, 3)
    near.restart()
    assert [place.finished(run).status for run in runs] == ["succeeded"] * 3
    assert [call["name"] for call in place.sim_get("calls")] == ["near"] * 3


def test_a_call_that_is_handed_over_says_what_it_was_admitted_for(place: World) -> None:
    run, own = place.submit(place.plan("chat@near: one")), place.submit(place.plan("chat@far: two"))
    handed_over(place, 1)
    told = place.one("select decision -> 'admitted' as told from attempts where run_id = %s", run).told
    assert {name.partition("@")[0] for name in told["counters"]} == {"all/hour", "all/day"}
    assert (told["is_probe"], told["generation"]) == (False, place.redis.get("{goblin}:generation"))
    assert place.finished(own).status == "succeeded"
    assert place.all("select 1 from attempts where run_id = %s and decision ? 'admitted'", own) == []
    place.start_worker("near", queues=(NEAR,))
    assert place.finished(run).status == "succeeded"


def test_a_call_whose_hold_is_gone_when_it_is_taken_is_admitted_anew(place: World) -> None:
    run = place.submit(place.plan("chat@near: one"))
    handed_over(place, 1)
    (attempt,) = [str(row.id) for row in place.all("select id from attempts")]
    Scripts(place.redis).run("release", {"attempt": attempt})
    place.start_worker("near", queues=(NEAR,))
    assert place.finished(run).status == "succeeded"
    assert tries(place, run) == [("near", "failed", "untaken"), ("near", "succeeded", None)]
    assert len(place.sim_get("calls")) == 1


def test_calls_that_nobody_takes_are_made_elsewhere_or_wait_and_say_why(place: World) -> None:
    plan = place.plan("chat: one")
    free, pinned = place.submit(plan, providers=["near", "far"]), place.submit(place.plan("chat@near: two"))
    handed_over(place, 2)
    expired = "update attempts set lease_until = now() - interval '1 second' where owner is null returning id"
    assert len(place.all(expired)) == 2
    assert place.finished(free).status == "succeeded"
    assert tries(place, free) == [("near", "abandoned", "untaken"), ("far", "succeeded", None)]
    place.until(lambda: "step.waiting" in dict(place.events(pinned)))
    assert dict(place.events(pinned))["step.waiting"]["reason"] == "no worker took the call from the queue of near"
    place.start_worker("near", queues=(NEAR,))
    assert place.finished(pinned).status == "succeeded"
    assert tries(place, pinned) == [("near", "abandoned", "untaken"), ("near", "succeeded", None)]
    assert place.one("select 1 from entries where provider = 'near' having count(*) <> 1") is None


def test_a_call_that_is_taken_by_a_worker_which_does_not_know_its_model_is_made_elsewhere_and_costs_nothing(
    place: World,
) -> None:
    """As while an installation is given another configuration, one worker after the other."""
    older = place.folder / "older.toml"
    older.write_text((place.folder / "goblin.toml").read_text().replace('"sim-instant"', '"sim-older"'))
    place.start_worker("near", queues=(NEAR,), env={**place.env, "GOBLIN_CONFIG": str(older)})
    run = place.submit(place.plan("chat: one"), providers=["near", "far"])
    assert place.finished(run).status == "succeeded"
    assert tries(place, run) == [("near", "failed", "untaken"), ("far", "succeeded", None)]
    assert place.all("select 1 from entries where provider = 'near'") == []


def test_a_call_that_nobody_took_does_not_make_known_what_a_dead_worker_has_said(
    processes: Processes, database: str, redis_url: str, tmp_path: Path
) -> None:
    """Half an answer is gone on with, but not once a worker died that had gone on with it."""
    sim = Sim("goes-on", ("sim-instant+prefill=on",), options={"prefill": True})
    with world(processes, tmp_path, database, redis_url, sim, extra=QUICK) as place:
        plan = place.plan("chat@goes-on: one")
        run = place.store(plan)
        who = {"provider": sim.name, "model": sim.models[0]}
        cut = claim(run, **who)
        attempts.open_attempt(place.ledger, cut)
        error = {
            "type": "broken_stream",
            "message": "it broke",
            "details": {"streamed": True, "failed_at_ms": now_ms() - 30_000},
        }
        half = Ending(AttemptStatus.FAILED, StepStatus.PENDING, "Half of", error=error)
        attempts.settle(place.ledger, cut.attempt, half, goblin="chat", key_id=None)
        for epoch, owner in ((1, uuid.uuid4()), (2, None)):
            attempts.open_attempt(place.ledger, claim(run, epoch=epoch, owner=owner, lease=-5, **who))
            attempts.abandon(place.ledger, calm=0, limit=1)
        publish(place.app, plan, run, 3)
        runs.mark_published(place.ledger, run, 3)
        place.start_worker("steps")
        assert place.finished(run).status == "succeeded"
        assert tries(place, run)[1:3] == [(sim.name, "abandoned", "abandoned"), (sim.name, "abandoned", "untaken")]
        assert "continues" not in dict(place.events(run))["step.started"]
