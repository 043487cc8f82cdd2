"""What the fleet remembers of its breakers through a loss of Redis: every change is written down in the ledger.

A change is noted after it has taken effect in Redis, so one may be missing; then the ends of the calls that made it are
in the ledger all the same, and say it again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

import structlog

from goblin.errors import Unavailable
from ledger import breakers
from ledger.breakers import End, State
from ledger.session import Ledger
from routing.ask import SPAN_MS
from routing.breaker import Change, Knobs, Verdict, as_ask, seen_before
from routing.script import Verb

_log = structlog.get_logger()


def keep(ledger: Ledger, changes: Sequence[Change]) -> None:
    """Write down what has changed, and say it. Without Postgres it is said only."""
    if not changes:
        return
    for change in changes:
        _log.info(f"breaker.{change.what}", name=change.name, reason=change.reason)
    try:
        breakers.keep(ledger, {change.name: State(change.state, change.at_ms) for change in changes})
    except Unavailable as away:
        _log.warning("breakers.not_kept", names=[change.name for change in changes], reason=away.message)


def lessons(ends: Iterable[End], kept: Mapping[str, str], knobs: Knobs) -> list[Verb]:
    """The verbs that tell the breakers how calls ended, oldest first: those calls that were admitted since the states
    that were kept, which know of the others."""
    since = {name: int(json.loads(state)["changed"]) for name, state in kept.items()}
    found: list[Verb] = []
    for end in ends:
        candidate = f"{end.provider}/{end.model}"
        outcome = seen_before(end.error, end.age_ms)
        is_news = end.at_ms >= max(since.get(end.provider, 0), since.get(candidate, 0))
        if is_news and outcome.verdict is not Verdict.NONE:
            ask = as_ask("", end.provider, candidate, outcome, knobs, SPAN_MS, end.key, is_again=True)
            found.append(("judge", ask))
    return found
