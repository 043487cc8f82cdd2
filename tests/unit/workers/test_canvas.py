"""The canvas as a shape: every step once, each after what it follows, side by side what may be, and ids alone.

That Celery runs these shapes in this order is shown on a real worker elsewhere.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery.canvas import Signature, _chain, chord, group
from hypothesis import given
from hypothesis import strategies as st

from goblin.errors import Unavailable
from goblin.settings import load
from tests.fakes.plans import plans
from tests.fakes.runs import plan_of
from tests.fakes.wire import Wire
from workers.app import STEPS, App, create
from workers.canvas import JOIN, SOUND, STEP, compile_canvas, publish, sound
from workflow.plan import Plan, Sequence, Stage

RUN = uuid.UUID(int=7)
NOWHERE = create(load(environ={"REDIS_URL": "redis://127.0.0.1:1/0"}))


def leaves(part: Signature) -> Iterator[Signature]:
    match part:
        case chord():
            yield from (leaf for member in members(part.tasks) for leaf in leaves(member))
            yield from leaves(part.body)
        case _chain() | group():
            yield from (leaf for member in part.tasks for leaf in leaves(member))
        case _:
            yield part


def members(header: Any) -> list[Signature]:
    return list(header.tasks) if isinstance(header, group) else list(header)


class Walk:
    """Which steps have ended for certain when a step's message is sent."""

    def __init__(self, canvas: Signature | None) -> None:
        self.before: dict[int, frozenset[int]] = {}
        if canvas is not None:
            self.walk(canvas, frozenset(), is_last=True)

    def walk(self, part: Signature, done: frozenset[int], *, is_last: bool) -> frozenset[int]:
        match part:
            case chord():
                header = [self.walk(member, done, is_last=False) for member in members(part.tasks)]
                return self.walk(part.body, done.union(*header), is_last=is_last)
            case group():
                assert is_last, "what follows a group does not wait for it"
                return done.union(*(self.walk(member, done, is_last=True) for member in part.tasks))
            case _chain():
                for number, member in enumerate(part.tasks, 1):
                    done = self.walk(member, done, is_last=is_last and number == len(part.tasks))
                return done
        if part.task == JOIN:
            return done
        idx = part.args[1]
        assert idx not in self.before, f"step {idx} has two messages"
        self.before[idx] = done
        return done | {idx}


def steps_of(stage: Stage) -> Iterator[int]:
    for branch in stage.every_branch:
        if isinstance(branch, Sequence):
            yield from (idx for inner in branch.stages for idx in steps_of(inner))
        else:
            yield branch.idx


def ahead_of(plan: Plan, idx: int) -> frozenset[int]:
    """The steps of all stages before this one, and before each group around it."""
    return frozenset(
        step for place in plan.place(idx).path for stage in place.stages[: place.index] for step in steps_of(stage)
    )


@given(plans(max_steps=14), st.data())
def test_what_is_not_settled_is_sent_once_and_in_the_order_of_the_plan(plan: Plan, data: st.DataObject) -> None:
    everything = frozenset(range(len(plan.steps)))
    settled = data.draw(st.frozensets(st.sampled_from(sorted(everything))), label="settled")
    before = Walk(compile_canvas(NOWHERE, plan, RUN, 3, settled)).before
    assert set(before) == everything - settled
    for idx, done in before.items():
        assert done == ahead_of(plan, idx) - settled


@given(plans())
def test_messages_hold_ids_and_nothing_else(plan: Plan) -> None:
    canvas = compile_canvas(NOWHERE, plan, RUN, 3)
    assert canvas is not None
    for leaf in leaves(canvas):
        assert leaf.immutable
        assert not leaf.kwargs
        assert leaf.options["queue"] == STEPS
        if leaf.task == JOIN:
            assert not leaf.args
        else:
            step = plan.steps[leaf.args[1]]
            assert (leaf.task, tuple(leaf.args)) == (STEP, (RUN.hex, step.idx, 3))
            assert leaf.options["shadow"] == step.goblin
            assert step.task not in json.dumps(leaf)


def test_a_run_without_open_steps_has_no_canvas() -> None:
    plan = plan_of("chat: one THEN chat: two")
    assert compile_canvas(NOWHERE, plan, RUN, 2, {0, 1}) is None
    publish(NOWHERE, plan, RUN, 2, {0, 1})  # says nothing to a broker that is not there


def test_no_task_text_is_in_a_canvas() -> None:
    canvas = compile_canvas(NOWHERE, plan_of("chat: my secret plan AND chat: x THEN review: my secret"), RUN, 1)
    assert "secret" not in json.dumps(canvas)


def test_a_canvas_of_two_hundred_steps_is_small() -> None:
    plan = plan_of(" THEN ".join(["(chat: a AND chat: b THEN chat: c)"] * 66))
    sent = Walk(compile_canvas(NOWHERE, plan, RUN, 1)).before
    assert len(sent) == 198


def test_only_the_first_stage_is_sent_at_once(redis_url: str) -> None:
    app = create(load(environ={"REDIS_URL": redis_url}))
    publish(app, plan_of("chat: a AND (chat: b THEN chat: c) THEN chat: d"), RUN, 1)
    with redis.Redis.from_url(redis_url) as client:
        sent = [json.loads(message) for message in client.lrange(STEPS, 0, -1)]
    assert sorted(message["headers"]["argsrepr"] for message in sent) == [f"run {RUN} step 1", f"run {RUN} step 2"]
    assert {message["headers"]["task"] for message in sent} == {STEP}


def test_a_canvas_however_nested_takes_one_producer(redis_url: str) -> None:
    app = create(load(environ={"REDIS_URL": redis_url}))
    app.conf.broker_pool_limit = 1  # who needs a second one waits for ever
    nested = "(chat: a AND (chat: b AND chat: c THEN chat: d) THEN chat: e) AND chat: f THEN chat: g"
    publish(app, plan_of(nested), RUN, 1)
    publish(app, plan_of(nested), RUN, 2)
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen(STEPS) == 8


def test_a_sounding_goes_into_the_steps_queue(redis_url: str) -> None:
    app = create(load(environ={"REDIS_URL": redis_url}))
    sound(app, "2026-01-01 00:00:00+00")
    with redis.Redis.from_url(redis_url) as client:
        (message,) = [json.loads(message) for message in client.lrange(STEPS, 0, -1)]
    assert message["headers"]["task"] == SOUND
    assert message["headers"]["expires"]


@pytest.mark.parametrize("workflow", ["chat: a", "chat: a AND chat: b", "chat: a AND chat: b THEN chat: c"])
def test_a_broker_that_is_not_there_is_unavailable(workflow: str) -> None:
    with pytest.raises(Unavailable):
        publish(NOWHERE, plan_of(workflow), RUN, 1)
    with pytest.raises(Unavailable):
        sound(NOWHERE, "now")


@pytest.mark.parametrize("workflow", ["chat: a", "chat: a AND chat: b", "chat: a AND chat: b THEN chat: c"])
def test_a_broker_that_went_away_is_unavailable_and_comes_back(workflow: str, redis_url: str) -> None:
    with Wire(redis_url) as wire:
        app: App = create(load(environ={"REDIS_URL": wire.url}))
        publish(app, plan_of(workflow), RUN, 1)
        wire.shut()
        with pytest.raises(Unavailable):
            publish(app, plan_of(workflow), RUN, 2)
        wire.mend()
        publish(app, plan_of(workflow), RUN, 3)
        with redis.Redis.from_url(redis_url) as client:
            sent = [json.loads(message)["headers"] for message in client.lrange(STEPS, 0, -1)]
        assert len(sent) == 2 * len([step for step in ("a", "b") if f"chat: {step}" in workflow])
