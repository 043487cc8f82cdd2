"""A workflow compiled: steps in stages in sequences, and what can be said about them before anything runs.

What happens while it runs is decided in `outcome`; which goblins and providers exist is known to others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import count, pairwise
from typing import Any

from goblin.errors import UsageError

_VERSION = 1


class PlanError(UsageError):
    """A plan that cannot be: misnumbered, unreadable, or asked about a step that it does not hold."""

    slug = "plan"


class On(StrEnum):
    """What a condition asks of the carried outcome; the values are the keywords of the language."""

    SUCCESS = "IF_SUCCESS"
    FAILURE = "IF_FAILURE"
    CONTAINS = "IF_CONTAINS"


@dataclass(frozen=True, slots=True)
class Condition:
    """`needle` is what CONTAINS looks for in the carried output; None for the others."""

    on: On
    needle: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One task for one goblin, perhaps pinned to a provider and model. `idx` counts from 0 in the order of the text."""

    idx: int
    goblin: str
    task: str
    provider: str | None = None
    model: str | None = None

    @property
    def id(self) -> str:
        return f"step{self.idx + 1}"


@dataclass(frozen=True, slots=True)
class Stage:
    """Branches that run side by side. `otherwise` runs when the condition does not hold; it has neither of its own."""

    branches: tuple[Step | Sequence, ...]
    condition: Condition | None = None
    otherwise: Stage | None = None

    @property
    def every_branch(self) -> tuple[Step | Sequence, ...]:
        """The branches of both sides: only one side ever runs."""
        return self.branches + self.otherwise.branches if self.otherwise else self.branches


@dataclass(frozen=True, slots=True)
class Sequence:
    """Stages one after the other: a whole workflow, or a group in parentheses."""

    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step stands: on one side of `stages[index]`, and where the group of these stages stands in turn."""

    stages: tuple[Stage, ...]
    index: int
    is_otherwise: bool
    parent: Place | None

    @property
    def stage(self) -> Stage:
        return self.stages[self.index]

    @property
    def path(self) -> list[Place]:
        """From the outermost sequence down to this place."""
        path, place = [self], self.parent
        while place:
            path.append(place)
            place = place.parent
        return path[::-1]


@dataclass(frozen=True)
class Plan:
    """Answers are computed when first asked for and kept. Raises PlanError if steps are not numbered in text order."""

    root: Sequence

    def __post_init__(self) -> None:
        if not self.steps or any(step.idx != idx for idx, step in enumerate(self.steps)):
            raise PlanError("the steps of a plan are numbered from 0 in the order of its text")

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        return tuple(_steps(self.root))

    @cached_property
    def depth(self) -> int:
        """How many groups stand one inside the other; 0 without groups."""
        return _depth(self.root)

    @cached_property
    def max_parallel(self) -> int:
        """How many steps can run at once at most."""
        return _width(self.root)

    @cached_property
    def gates(self) -> frozenset[int]:
        """The steps that a condition looks at."""
        return frozenset(_gates(self.root))

    @cached_property
    def needs_outputs(self) -> bool:
        """Whether deciding takes outputs, not outcomes alone."""
        return any(stage.condition and stage.condition.on is On.CONTAINS for stage in _stages(self.root))

    def place(self, idx: int) -> Place:
        if not 0 <= idx < len(self._places):
            raise PlanError(f"the plan has no step {idx}: it has {len(self._places)}")
        return self._places[idx]

    def dependencies(self, idx: int) -> tuple[int, ...]:
        """The steps whose outcome hands over to this one; () for those that start the workflow."""
        place: Place | None = self.place(idx)
        while place and place.index == 0:
            place = place.parent
        return tuple(_last_steps(place.stages[place.index - 1])) if place else ()

    def as_value(self) -> dict[str, Any]:
        """The plan as small JSON. A step is [goblin, task, provider?, model?], a stage a list of branches."""
        return {"v": _VERSION, "stages": _stages_value(self.root)}

    @staticmethod
    def from_value(value: Any) -> Plan:
        """The inverse of `as_value`. Raises PlanError for anything else."""
        try:
            if value["v"] != _VERSION:
                raise PlanError("the stored plan was written by another release")
            return Plan(_read_sequence(value["stages"], count()))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise PlanError("the stored plan cannot be read") from error

    @cached_property
    def _places(self) -> tuple[Place, ...]:
        places: list[Place] = []
        _collect_places(self.root, None, places)
        return tuple(places)


def _groups(sequence: Sequence) -> Iterator[Sequence]:
    return (branch for stage in sequence.stages for branch in stage.every_branch if isinstance(branch, Sequence))


def _stages(sequence: Sequence) -> Iterator[Stage]:
    yield from sequence.stages
    for group in _groups(sequence):
        yield from _stages(group)


def _steps(sequence: Sequence) -> Iterator[Step]:
    for stage in sequence.stages:
        for branch in stage.every_branch:
            if isinstance(branch, Sequence):
                yield from _steps(branch)
            else:
                yield branch


def _depth(sequence: Sequence) -> int:
    return max((1 + _depth(group) for group in _groups(sequence)), default=0)


def _width(sequence: Sequence) -> int:
    sides = (side for stage in sequence.stages for side in (stage, stage.otherwise) if side)
    return max(sum(_width(b) if isinstance(b, Sequence) else 1 for b in side.branches) for side in sides)


def _last_steps(stage: Stage) -> Iterator[int]:
    for branch in stage.every_branch:
        if isinstance(branch, Sequence):
            yield from _last_steps(branch.stages[-1])
        else:
            yield branch.idx


def _gates(sequence: Sequence) -> Iterator[int]:
    # A condition may be handed the outcome of an earlier stage when the one before it was skipped. Such a skip was
    # decided by that stage's own condition, which makes gates of what stands before it: nothing need be walked back.
    for before, stage in pairwise(sequence.stages):
        if stage.condition:
            yield from _last_steps(before)
    for group in _groups(sequence):
        yield from _gates(group)


def _collect_places(sequence: Sequence, parent: Place | None, places: list[Place]) -> None:
    for index, stage in enumerate(sequence.stages):
        for side in (stage, stage.otherwise) if stage.otherwise else (stage,):
            place = Place(sequence.stages, index, side is not stage, parent)
            for branch in side.branches:
                if isinstance(branch, Sequence):
                    _collect_places(branch, place, places)
                else:
                    places.append(place)


def _stages_value(sequence: Sequence) -> list[Any]:
    return [_stage_value(stage) for stage in sequence.stages]


def _stage_value(stage: Stage) -> Any:
    branches = [_branch_value(branch) for branch in stage.branches]
    if not stage.condition:
        return branches
    value: dict[str, Any] = {"if": stage.condition.on.value, "do": branches}
    if stage.condition.needle is not None:
        value["needle"] = stage.condition.needle
    if stage.otherwise:
        value["else"] = [_branch_value(branch) for branch in stage.otherwise.branches]
    return value


def _branch_value(branch: Step | Sequence) -> Any:
    if isinstance(branch, Sequence):
        return {"stages": _stages_value(branch)}
    parts = [branch.goblin, branch.task, branch.provider, branch.model]
    while parts[-1] is None:
        parts.pop()
    return parts


def _read_sequence(stages: list[Any], numbers: Iterator[int]) -> Sequence:
    return Sequence(tuple(_read_stage(stage, numbers) for stage in stages))


def _read_stage(value: Any, numbers: Iterator[int]) -> Stage:
    if isinstance(value, list):
        return Stage(_read_branches(value, numbers))
    return Stage(
        _read_branches(value["do"], numbers),
        Condition(On(value["if"]), value.get("needle")),
        Stage(_read_branches(value["else"], numbers)) if "else" in value else None,
    )


def _read_branches(values: list[Any], numbers: Iterator[int]) -> tuple[Step | Sequence, ...]:
    return tuple(
        _read_sequence(value["stages"], numbers) if isinstance(value, dict) else Step(next(numbers), *value)
        for value in values
    )
