"""A run's events over SSE: live, resumed, and rebuilt when Redis has lost them."""

import threading
import uuid
from typing import Any

import pytest

from goblin import kv
from goblin.settings import Settings
from ledger.states import RunStatus, StepStatus
from workers.stream import key

REPLAYED = {"step": "step1", "reason": "replayed"}


def kinds(events: list[Any]) -> list[str]:
    return [kind for _, kind, _ in events]


def text(events: list[Any], step: str = "step1") -> str:
    """What a client that takes withdrawals seriously holds in the end."""
    held = ""
    for _, kind, data in events:
        if data.get("step") == step:
            held = "" if kind == "step.reset" else held + data.get("text", "")
    return held


def forget(settings: Settings) -> None:
    with kv.connect(settings.require_redis_url()) as client:
        client.flushdb()


def play(api: Any, run: str, said: str = "Hello, world", idx: int = 0, **end: Any) -> None:
    attempt = api.hand.begin(run, idx)
    for piece in said.split(" "):
        api.hand.say(run, f"{piece} ", idx)
    api.hand.end(run, attempt, said, idx, **end)


def test_a_run_is_followed_to_its_end(api: Any) -> None:
    run = api.submit()
    play(api, run)
    api.hand.finish(run)
    events = list(api.events(run))
    assert kinds(events) == ["step.started", "delta", "delta", "step.finished", "run.finished"]
    assert text(events) == "Hello, world "
    assert events[1][2] == {"step": "step1", "text": "Hello, ", "tokens": 2, "cost": "0.000002000"}
    assert events[-1][2] == {"outcome": "succeeded", "cost_usd": "0.000004000"}


def test_events_arrive_while_the_run_runs(api: Any) -> None:
    run = api.submit()
    events = api.events(run)
    attempt = api.hand.begin(run)
    assert next(events)[1] == "step.started"
    api.hand.say(run, "Hello")
    assert next(events)[2]["text"] == "Hello"
    api.hand.end(run, attempt, "Hello")
    api.hand.finish(run)
    assert kinds(list(events)) == ["step.finished", "run.finished"]


def test_a_client_that_comes_back_misses_nothing_and_hears_nothing_twice(api: Any) -> None:
    run = api.submit()
    play(api, run)
    api.hand.finish(run)
    events = list(api.events(run))
    for place, (last, _, _) in enumerate(events):
        assert list(api.events(run, last)) == events[place + 1 :]


def test_the_place_may_be_given_in_the_query(api: Any) -> None:
    run = api.submit()
    play(api, run)
    api.hand.finish(run)
    events = list(api.events(run))
    answer = api.client.get(f"/v1/runs/{run}/events", params={"last_event_id": events[-2][0]})
    assert "run.finished" in answer.text
    assert "step.finished" not in answer.text


def test_a_client_comes_back_to_an_api_that_was_restarted(api: Any, settings: Settings, serve: Any) -> None:
    run = api.submit()
    attempt = api.hand.begin(run)
    api.hand.say(run, "Hel")
    last = next(event for event in api.events(run) if event[1] == "delta")
    with serve(settings, {}) as url:
        other = type(api)(url, type(api.client)(base_url=url, timeout=20), api.hand)
        api.hand.say(run, "lo")
        api.hand.end(run, attempt, "Hello")
        api.hand.finish(run)
        assert [data.get("text") for _, _, data in other.events(run, last[0])] == ["lo", None, None]


def test_a_finished_run_whose_events_are_gone_is_told_from_the_ledger(api: Any, settings: Settings) -> None:
    run = api.submit("chat: a THEN chat: b")
    play(api, run, "one")
    play(api, run, "two", 1)
    api.hand.finish(run)
    forget(settings)
    events = list(api.events(run))
    assert kinds(events) == ["step.started", "delta", "step.finished"] * 2 + ["run.finished"]
    assert (text(events), text(events, "step2")) == ("one", "two")
    assert events[1][2]["cost"] == events[2][2]["cost_usd"] == "0.000004000"
    assert events[2][2]["usage"]["output"] == 2
    assert events[-1][2] == {"outcome": "succeeded", "cost_usd": "0.000008000"}


def test_who_comes_back_when_the_events_are_gone_withdraws_what_he_held(api: Any, settings: Settings) -> None:
    run = api.submit()
    play(api, run)
    last = next(iter(api.events(run)))[0]
    api.hand.finish(run)
    forget(settings)
    events = list(api.events(run, last))
    assert kinds(events) == ["step.reset", "step.started", "delta", "step.finished", "run.finished"]
    assert events[0][2] == REPLAYED


def test_who_was_told_from_the_ledger_and_comes_back_is_told_again(api: Any, settings: Settings) -> None:
    run = api.submit()
    play(api, run)
    api.hand.finish(run)
    forget(settings)
    place = next(iter(api.events(run)))[0]
    assert kinds(list(api.events(run, place)))[0] == "step.reset"


def test_after_a_loss_of_redis_an_open_run_goes_on_being_told(api: Any, settings: Settings) -> None:
    run = api.submit("chat: a THEN chat: b")
    play(api, run, "one")
    forget(settings)
    events = api.events(run)
    seen = [next(events) for _ in range(3)]
    assert (kinds(seen), text(seen)) == (["step.started", "delta", "step.finished"], "one")
    play(api, run, "two", 1)
    api.hand.finish(run)
    seen += events
    assert text(seen, "step2") == "two "
    assert kinds(seen)[-1] == "run.finished"


def test_a_step_whose_beginning_was_lost_is_shown_whole_when_it_ends(api: Any, settings: Settings) -> None:
    run = api.submit()
    attempt = api.hand.begin(run)
    api.hand.say(run, "lost ")
    forget(settings)
    api.hand.say(run, "kept")
    api.hand.end(run, attempt, "lost kept")
    api.hand.finish(run)
    events = list(api.events(run))
    assert kinds(events) == ["step.started", "delta", "step.finished", "run.finished"]
    assert text(events) == "lost kept"


def test_a_hole_in_the_middle_of_a_step_is_mended_when_it_ends(api: Any, settings: Settings) -> None:
    run = api.submit()
    attempt = api.hand.begin(run)
    events = api.events(run)
    api.hand.say(run, "seen ")
    seen = [next(events), next(events)]
    with kv.connect(settings.require_redis_url()) as client:
        client.xadd(key(uuid.UUID(run)), {"type": "delta", "data": '{"step":"step9","text":"","tokens":0,"cost":"0"}'})
    api.hand.say(run, "heard")
    api.hand.end(run, attempt, "seen but not heard")
    api.hand.finish(run)
    seen += events
    assert text(seen) == "seen but not heard"
    assert REPLAYED in [data for _, kind, data in seen if kind == "step.reset"]


def test_an_attempt_that_a_dead_worker_left_is_withdrawn(api: Any) -> None:
    run = api.submit()
    api.hand.begin(run)
    api.hand.say(run, "half an ans")
    api.hand.emit(run, "step.started", 0, goblin="chat", provider="sim", model="large", attempt=2)
    api.hand.say(run, "whole")
    api.hand.emit(run, "step.finished", 0, outcome="failed", cost_usd="0.000000000", usage=None, error=None)
    api.hand.emit(run, "run.finished", 0)
    events = list(api.events(run))
    assert kinds(events)[:5] == ["step.started", "delta", "step.reset", "step.started", "delta"]
    assert text(events) == "whole"


def test_an_end_that_was_never_told_is_found_in_the_ledger(api: Any) -> None:
    run = api.submit()
    events = api.events(run)
    attempt = api.hand.begin(run)
    seen = [next(events)]
    api.hand.end(run, attempt, "Hello", tells=False)
    api.hand.finish(run, tells=False)
    seen += events
    assert kinds(seen)[-2:] == ["step.finished", "run.finished"]
    assert text(seen) == "Hello"


def test_a_step_that_failed_without_a_call_ends_in_a_replay_with_its_error(api: Any, settings: Settings) -> None:
    run = api.submit()
    error = {"type": "unreachable", "message": "nobody answers"}
    api.hand.end(run, api.hand.begin(run), None, step=StepStatus.FAILED, error=error)
    api.hand.finish(run, RunStatus.FAILED)
    forget(settings)
    events = list(api.events(run))
    assert kinds(events) == ["step.started", "step.finished", "run.finished"]
    assert (events[1][2]["outcome"], events[1][2]["error"]) == ("failed", error)


def test_a_trimmed_stream_is_completed_from_the_ledger(api: Any, settings: Settings) -> None:
    run = api.submit("chat: a THEN chat: b")
    play(api, run, "one")
    play(api, run, "two", 1)
    api.hand.finish(run)
    with kv.connect(settings.require_redis_url()) as client:
        client.xtrim(key(uuid.UUID(run)), maxlen=2, approximate=False)
    events = list(api.events(run))
    assert (text(events), text(events, "step2")) == ("one", "two")
    assert kinds(events).count("step.finished") == 2


@pytest.mark.parametrize("cursor", ["nonsense", "99999999999999-0", "0-0"])
def test_a_place_that_never_was_gives_everything_again(api: Any, cursor: str) -> None:
    run = api.submit()
    play(api, run)
    api.hand.finish(run)
    events = list(api.events(run, cursor))
    assert kinds(events)[0] == "step.reset"
    assert kinds(events)[-1] == "run.finished"
    assert text(events).strip() == "Hello, world"


def test_a_run_that_ends_while_a_listener_arrives_is_told_by_its_events(api: Any) -> None:
    """The listener has read an empty stream and is kept from the ledger until all has happened."""
    run = api.submit()
    heard: list[Any] = []
    listener = threading.Thread(target=lambda: heard.extend(api.events(run)))
    with api.hand.ledger.engine.connect() as busy, api.hand.ledger.engine.connect() as watching:
        busy.exec_driver_sql("begin")
        busy.exec_driver_sql("lock table steps in access exclusive mode")
        listener.start()
        while not watching.exec_driver_sql("select from pg_locks where not granted").all():
            pass
        api.hand.emit(run, "step.started", 0, goblin="chat", provider="sim", model="small", attempt=1)
        api.hand.say(run, "Hello")
        api.hand.emit(run, "step.finished", 0, outcome="succeeded", cost_usd="0.000000000", usage=None, error=None)
        api.hand.feed.emit(uuid.UUID(run), ("run.finished", {"outcome": "succeeded", "cost_usd": "0.000000000"}))
        busy.exec_driver_sql("update steps set status = 'succeeded', output = 'Hello', finished_at = now()")
        busy.exec_driver_sql("update runs set status = 'succeeded', open_steps = 0, finished_at = now()")
        busy.exec_driver_sql("commit")
    listener.join()
    assert kinds(heard) == ["step.started", "delta", "step.finished", "run.finished"]
    assert "replayed" not in {place for place, _, _ in heard}


def test_a_client_that_goes_away_leaves_no_reader_behind(api: Any, settings: Settings) -> None:
    run = api.submit()
    gone = threading.Event()
    with kv.connect(settings.require_redis_url()) as client:
        for _ in range(3):
            with api.client.stream("GET", f"/v1/runs/{run}/events") as answer:
                next(answer.iter_lines())
        for _ in range(40):
            blocked = client.info("clients")["blocked_clients"]
            if blocked == 0:
                break
            gone.wait(0.1)
    assert blocked == 0
