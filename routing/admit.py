"""May this call be made now? One decision for the whole fleet, asked between ranking and opening an attempt.

The hold it returns is written on the attempt before the call and given back when the attempt settles.
"""

from dataclasses import dataclass

from routing.candidate import Candidate
from routing.route import Route


@dataclass(frozen=True, slots=True)
class Admitted:
    """The place that was taken: for whom, and the most that the call may cost (nano-dollars)."""

    candidate: Candidate
    hold: int


class Admission:
    def admit(self, route: Route) -> Admitted:
        """Take a place for the best candidate of a route. Raises NoCandidate when the route is empty."""
        best = route.require().candidates[0].candidate
        return Admitted(best, best.worst_case(route.need))
