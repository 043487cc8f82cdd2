"""The real canvas on a real worker ends as the reference interpreter says, whatever the workflow and its outcomes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.embedded import Stack
from tests.fakes.fates import Fate, expected, fated
from tests.fakes.plans import WORDS
from tests.processes import Processes
from tests.world import Sim, World, saying, world
from workflow.outcome import Outcome, Settled
from workflow.plan import Plan

FAILING = "Rejected\nVERDICT: FAIL"
FATES = (
    *(
        Fate(Settled(Outcome.SUCCEEDED, words), "sim", saying(words))
        for words in (*WORDS, "approved needs work", "nothing to say")
    ),
    Fate(Settled(Outcome.FAILED), "sim", "sim-instant+fail=400"),
    Fate(Settled(Outcome.FAILED, FAILING), "sim", saying(FAILING), judged=True),
)


@pytest.fixture(scope="module")
def place(
    stack: Stack, processes: Processes, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("canvas")
    sim = Sim("sim", tuple(str(fate.model) for fate in FATES))
    with world(processes, folder, database_url, stack.redis_url, sim) as made:
        made.start_worker()
        yield made


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=fated(FATES), fail_fast=st.booleans())
def test_a_run_ends_as_the_oracle_says(place: World, plan: Plan, fail_fast: bool) -> None:
    outcome, steps = expected(plan, FATES, fail_fast=fail_fast)
    run = place.submit(plan, fail_fast=fail_fast)
    ended = place.finished(run)
    assert place.statuses(run) == steps
    assert ended.status == outcome
    assert ended.open_steps == 0
