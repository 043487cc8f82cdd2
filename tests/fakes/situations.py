"""Calls that are under way in every manner, to be stopped in its middle; and when their provider saw them hang up."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from tests.fakes.wire import Wire
from tests.processes import PATIENCE_S
from tests.world import Sim, World, saying

ENDLESS = f"{saying(' '.join(['word'] * 60))}+speed=1"
LONG_WORDS = f"{saying(' '.join(['incomprehensibilities' * 2] * 40))}+speed=3"
AT_ONCE = 50
SIMS = (
    Sim("talks", (ENDLESS,)),
    Sim("mute", ("sim-instant+ttft=300",), options={"first_token_timeout": 400}),
    Sim("narrow", (f"{ENDLESS}+ttft=0",), options={"concurrency": 1}),
    Sim("wordy", (LONG_WORDS,)),
    Sim("quick"),
    Sim("nobody-s"),  # whose queue no worker takes
)
EXTRA = """
[worker]
concurrency = 80
[routing]
health_check_interval = 600
[goblins.chat]
instructions = "x"
task_class = "fast"
max_output_tokens = 60
"""


@dataclass(frozen=True)
class Situation:
    """`is_ready` says when the calls of a run are where they are to be stopped; `called` is how many there are.

    `step` is the only one to be stopped.
    """

    workflow: str
    is_ready: Callable[[World, uuid.UUID], bool]
    called: int = 1
    step: int | None = None


def is_called(place: World, run: uuid.UUID) -> bool:
    return place.one("select 1 from attempts where run_id = %s and status = 'open'", run) is not None


def is_streaming(place: World, run: uuid.UUID) -> bool:
    return "delta" in dict(place.events(run))


def all_are_called(place: World, run: uuid.UUID) -> bool:
    return bool(place.sim_get("limits").get("talks", {}).get("concurrent", 0) >= AT_ONCE)


def is_held_for_more(place: World, run: uuid.UUID) -> bool:
    """More than all its tokens would cost as output: 600 nano-dollars each."""
    return place.one("select 1 from attempts where run_id = %s and hold_nanousd > tokens * 600", run) is not None


def is_waiting(place: World, run: uuid.UUID) -> bool:
    return "waiting" in place.statuses(run).values()


SITUATIONS = {
    "before the first token": Situation("chat@mute: one THEN chat@quick: two", is_called),
    "while it streams": Situation("chat@talks: one THEN chat@quick: two", is_streaming),
    "fifty calls at once": Situation(" AND ".join(["chat@talks: one"] * AT_ONCE), all_are_called, AT_ONCE),
    "with more held than at first": Situation("chat@wordy: one", is_held_for_more),
    "one that calls and one that waits": Situation("chat@narrow: one AND chat@narrow: two", is_waiting),
}
OF_A_STEP = {
    "a step before the first token": Situation("chat@mute: one THEN IF_FAILURE chat@quick: two", is_called, step=0),
    "a step while it streams": Situation("chat@talks: one THEN IF_FAILURE chat@quick: two", is_streaming, step=0),
}
AWAY: Mapping[str, Callable[[Wire], None]] = {"refuses": Wire.shut, "swallows all": Wire.silence}
"""How Redis may be away."""


def begin(place: World, situation: Situation) -> uuid.UUID:
    run = place.submit(place.plan(situation.workflow))
    place.until(lambda: situation.is_ready(place, run))
    return run


def stop(place: World, api: httpx.Client, run: uuid.UUID, situation: Situation) -> list[float]:
    """Cancel it over HTTP: the seconds until its provider saw each call hang up."""
    before = len(place.sim_get("calls"))
    began = time.time()
    part = "" if situation.step is None else f"/steps/step{situation.step + 1}"
    answer = api.post(f"/v1/runs/{run}{part}/cancel")
    assert answer.status_code == 202, answer.text

    def gone() -> list[float] | None:
        calls = place.sim_get("calls")[before:]
        ends = [call["time"] - began for call in calls if call["outcome"] == "client_gone"]
        return ends if len(ends) >= situation.called else None

    ends: list[float] = place.until(gone, PATIENCE_S)
    return ends
