"""How the candidates have been doing, shared by the fleet in Redis: measures, and rests that errors impose.

A reader keeps its snapshot for a moment, so that ranking costs no round trip per step.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import redis

from goblin.errors import Breaker, GoblinError, Unavailable
from goblin.kv import outages
from goblin.settings import RoutingSettings
from routing.candidate import Candidate
from routing.score import Measure

MEASURES = "goblin:health:measures"
RESTS = "goblin:health:rests"
FRESH = 1.0  # seconds that a snapshot is good for
WEIGHT = 0.2  # of the newest sample
SURE = 5  # samples before a failure rate may open a breaker
REST_OF_FAULTS = 15.0  # seconds
REST_OF_KEY = 300.0  # seconds; a wrong key or an empty account does not mend itself in a moment
REST_OF_THROTTLE = 5.0  # seconds, when the vendor names none


@dataclass(frozen=True, slots=True)
class Snapshot:
    measures: Mapping[str, Measure]
    rests: Mapping[str, tuple[float, str]]  # until (Unix seconds), reason

    def measure(self, candidate: Candidate) -> Measure:
        """What was measured, and the catalog's priors for what was not."""
        prior = candidate.provider.prior
        known = self.measures.get(candidate.name)
        if known is None:
            return Measure(prior.ttft_s, prior.success_rate, prior.tokens_per_second)
        return Measure(
            known.ttft_s if known.ttft_s >= 0 else prior.ttft_s,
            known.success if known.success >= 0 else prior.success_rate,
            known.tokens_per_second if known.tokens_per_second >= 0 else prior.tokens_per_second,
        )

    def resting(self, now: float) -> dict[str, str]:
        """Providers and candidates to leave alone at `now` (Unix seconds), with the reason."""
        return {
            who: f"{reason}; rests for {until - now:.0f} s"
            for who, (until, reason) in self.rests.items()
            if until > now
        }


EMPTY = Snapshot({}, {})


class Health:
    """Reads and writes the fleet's knowledge; one per process, safe for many threads."""

    def __init__(self, client: redis.Redis, settings: RoutingSettings) -> None:
        self._client = client
        self._threshold = settings.circuit_breaker_threshold
        self._observe = client.register_script(files("routing").joinpath("lua/observe.lua").read_text())
        self._snapshot = EMPTY
        self._read_at = 0.0
        self._lock = threading.Lock()

    def snapshot(self) -> Snapshot:
        """The newest knowledge, at most FRESH seconds old; what was known before while Redis is away."""
        if time.monotonic() - self._read_at < FRESH or not self._lock.acquire(blocking=False):
            return self._snapshot
        try:
            with outages():
                pipe = self._client.pipeline(transaction=False)
                pipe.hgetall(MEASURES)
                pipe.hgetall(RESTS)
                measures, rests = pipe.execute()
            self._snapshot = Snapshot(
                {name: _measure(text) for name, text in measures.items()},
                {who: _rest(text) for who, text in rests.items()},
            )
        except Unavailable:
            pass
        finally:
            self._read_at = time.monotonic()
            self._lock.release()
        return self._snapshot

    def succeeded(self, candidate: Candidate, ttft_s: float | None, tokens_per_second: float | None) -> None:
        self._fold(
            candidate, "1", ttft_s, tokens_per_second, rest=None, concerned=candidate.name, reason="fails too often"
        )

    def failed(self, candidate: Candidate, error: GoblinError) -> None:
        """Let the fleet know; what an error means to others is its `breaker` fact."""
        rest, concerned = _rest_of(error, candidate)
        ok = "0" if error.breaker in {Breaker.COUNT, Breaker.OPEN} else "-1"
        reason = error.message if rest is not None else f"fails too often, last: {error.message}"
        self._fold(candidate, ok, None, None, rest=rest, concerned=concerned, reason=reason)
        if rest is not None:
            self._read_at = 0.0

    def _fold(
        self,
        candidate: Candidate,
        ok: str,
        ttft_s: float | None,
        tokens_per_second: float | None,
        *,
        rest: float | None,
        concerned: str,
        reason: str,
    ) -> None:
        arguments: list[str | int | float] = [
            candidate.name,
            candidate.provider.id,
            ok,
            "" if ttft_s is None else ttft_s * 1000,
            "" if tokens_per_second is None else tokens_per_second,
            WEIGHT,
            self._threshold,
            SURE,
            int(REST_OF_FAULTS * 1000),
            "" if rest is None else int(rest * 1000),
            concerned,
            reason[:200],
        ]
        try:
            with outages():
                self._observe(keys=[MEASURES, RESTS], args=arguments)
        except Unavailable:
            return  # a lost observation is made good by the next one


def _rest_of(error: GoblinError, candidate: Candidate) -> tuple[float | None, str]:
    match error.breaker:
        case Breaker.OPEN:
            return REST_OF_KEY, candidate.provider.id
        case Breaker.COOL:
            return error.retry_after or REST_OF_THROTTLE, candidate.name
        case _:
            return None, candidate.name


def _measure(text: str) -> Measure:
    """Below zero is what was not measured."""
    ttft, success, speed, samples = text.split(" ")
    return Measure(
        -1 if ttft == "-" else float(ttft) / 1000,
        -1 if samples == "0" else float(success),
        -1 if speed == "-" else float(speed),
    )


def _rest(text: str) -> tuple[float, str]:
    until, _, reason = text.partition(" ")
    return int(until) / 1000, reason
