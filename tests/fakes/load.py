"""A load on a limit: runs under several API keys, and how evenly what was allowed was used and shared."""

import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ledger import keys, runs
from ledger.runs import NewRun, NewStep
from tests.world import World
from workers.canvas import publish
from workflow.text import text

WINDOW_S = 60.0


@dataclass(frozen=True)
class Served:
    """A call that a simulated provider answered: when (Unix seconds), and the tokens that it counted."""

    at: float
    tokens: int


@dataclass(frozen=True)
class Share:
    """Calls of one provider in the time looked at; those of a key per weight of its turns."""

    by_worker: Mapping[str, float]
    by_key: Mapping[str, float]


def submit(place: World, workflow: str, count: int, key: uuid.UUID | None = None) -> list[uuid.UUID]:
    plan, made = place.plan(workflow), []
    steps = [NewStep(step.goblin, step.task, plan.dependencies(step.idx)) for step in plan.steps]
    for _ in range(count):
        run = runs.submit(place.ledger, NewRun(text(plan), plan.as_value(), {}, {}, steps, key_id=key)).id
        publish(place.app, plan, run, 1)
        runs.mark_published(place.ledger, run, 1)
        made.append(run)
    return made


def make_keys(place: World, weights: Mapping[str, float]) -> dict[str, uuid.UUID]:
    for name, weight in weights.items():
        keys.create(place.ledger, name, keys.Limits(weight=weight))
    return {one.name: one.id for one in keys.all_keys(place.ledger)}


def served(place: World, name: str) -> list[Served]:
    calls = (one for one in place.sim_get("calls") if one["name"] == name and one["status"] == 200)
    found = (Served(one["time"], one["input_tokens"] + one["output_tokens"]) for one in calls)
    return sorted(found, key=lambda call: call.at)


def most_in_a_minute(calls: Collection[Served]) -> tuple[int, int]:
    """The most calls, and the most tokens, in any rolling minute."""
    ordered, first, tokens, most, most_tokens = list(calls), 0, 0, 0, 0
    for last, call in enumerate(ordered):
        tokens += call.tokens
        while ordered[first].at <= call.at - WINDOW_S:
            tokens -= ordered[first].tokens
            first += 1
        most, most_tokens = max(most, last - first + 1), max(most_tokens, tokens)
    return most, most_tokens


def share(place: World, name: str, begin: float, end: float, weights: Mapping[str, float]) -> Share:
    """Who made the calls of a provider that were begun in a time (Unix seconds)."""
    rows = place.all(
        """select a.owner, k.name from attempts a join runs r on r.id = a.run_id left join keys k on k.id = r.key_id
        where a.provider = %s and a.started_at between to_timestamp(%s) and to_timestamp(%s)""",
        name,
        begin,
        end,
    )
    workers, named = Counter(str(row.owner) for row in rows), Counter(row.name for row in rows)
    return Share(workers, {key: named[key] / weight for key, weight in weights.items()})


def jain(counts: Collection[float]) -> float:
    """Jain's index of fairness: 1 when all have the same, 1/n when one has all."""
    squares = sum(count**2 for count in counts)
    return sum(counts) ** 2 / (len(counts) * squares) if squares else 0.0
