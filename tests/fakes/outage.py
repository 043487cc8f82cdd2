"""A provider that is down for a while, seen from its own books: when it was called, and what it answered."""

from collections.abc import Sequence
from dataclasses import dataclass

from routing.breaker import Knobs
from tests.world import World

REST_S = Knobs().rest_base_ms / 1000
SAMPLES = Knobs().samples
GAP_S = 0.75  # calls closer together than this are one wave


@dataclass(frozen=True)
class Visit:
    """A call as its provider saw it end. `at` is Unix seconds."""

    at: float
    status: int


def visits(place: World, name: str) -> list[Visit]:
    found = (Visit(call["time"], call["status"]) for call in place.sim_get("calls") if call["name"] == name)
    return sorted(found, key=lambda visit: visit.at)


def break_down(place: World, name: str) -> None:
    place.sim_post("faults", {"name": name, "directives": "+fail=503"})


def come_back(place: World, name: str) -> None:
    place.sim_post("faults", {"name": name, "directives": ""})


def waves(calls: Sequence[Visit]) -> list[list[Visit]]:
    """Calls in groups that are apart: the first is what was under way, every other should be a probe."""
    found: list[list[Visit]] = []
    for call in calls:
        if found and call.at - found[-1][-1].at < GAP_S:
            found[-1].append(call)
        else:
            found.append([call])
    return found


def first_seconds(calls: Sequence[Visit], seconds: float) -> int:
    """How many calls were answered within so many seconds of the first that was."""
    good = [call.at for call in calls if call.status == 200]
    return sum(at - good[0] <= seconds for at in good)
