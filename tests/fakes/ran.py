"""A run that has ended, as its caller and its providers have it; its providers say the same sixty words, if they do."""

import uuid
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from tests.world import World, saying

WORDS = " ".join(f"word{number}" for number in range(60))  # sixty tokens of the simulator
WHOLE = saying(WORDS)


@dataclass(frozen=True)
class Ran:
    place: World
    id: uuid.UUID

    @cached_property
    def row(self) -> Any:
        return self.place.finished(self.id)

    @cached_property
    def step(self) -> Any:
        return self.row and self.place.one("select * from steps where run_id = %s", self.id)

    @cached_property
    def attempts(self) -> list[Any]:
        return self.row and self.place.all("select * from attempts where run_id = %s order by number", self.id)

    @property
    def tries(self) -> list[tuple[str, str, str | None]]:
        return [(one.provider, one.status, (one.error or {}).get("type")) for one in self.attempts]

    @property
    def charges(self) -> list[tuple[str, bool]]:
        """Who is paid for what, and whether the amount was measured."""
        return [(entry.provider, entry.is_measured) for entry in self.entries]

    @cached_property
    def entries(self) -> list[Any]:
        return self.row and self.place.all("select * from entries where run_id = %s order by id", self.id)

    @cached_property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        self.place.until(lambda: "run.finished" in dict(self.place.events(self.id)))
        return self.place.events(self.id)

    @property
    def kinds(self) -> list[str]:
        """The kinds of its events, deltas in a row as one."""
        kinds = [kind for kind, _ in self.events]
        return [kinds[0], *(new for old, new in pairwise(kinds) if old != new or new != "delta")]

    @property
    def held(self) -> str:
        """What a listener holds of the answer in the end."""
        held = ""
        for kind, data in self.events:
            held = "" if kind == "step.reset" else held + data.get("text", "")
        return held

    def is_whole(self) -> bool:
        return bool(self.row.status == "succeeded" and self.step.output == self.held == WORDS)


def calls(place: World, name: str) -> list[dict[str, Any]]:
    """What the provider has in its books, in order."""
    return sorted((call for call in place.sim_get("calls") if call["name"] == name), key=lambda call: call["time"])


def outcomes(place: World, name: str) -> list[tuple[int, str]]:
    return [(call["status"], call["outcome"]) for call in calls(place, name)]
