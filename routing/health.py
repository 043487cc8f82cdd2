"""How the candidates have been doing, shared by the fleet in Redis, and who is left alone by the breakers just now.

A reader keeps its snapshot for a moment, so that ranking costs no round trip per step; admission decides by the moment.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import redis

from goblin.errors import Breaker, GoblinError, Unavailable
from goblin.kv import outages
from routing.candidate import Candidate
from routing.score import Measure
from routing.script import PREFIX

MEASURES = "goblin:health:measures"
RESTS = f"{PREFIX}:rests"  # written by the verb `judge`
FRESH = 1.0  # seconds that a snapshot is good for
WEIGHT = 0.2  # of the newest sample


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

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
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
        self._fold(candidate, "1", ttft_s, tokens_per_second)

    def failed(self, candidate: Candidate, error: GoblinError) -> None:
        """What is not the provider's doing says nothing about its success."""
        is_its_own = error.breaker in {Breaker.COUNT, Breaker.OPEN}
        self._fold(candidate, "0" if is_its_own else "-1", None, None)

    def _fold(self, candidate: Candidate, ok: str, ttft_s: float | None, tokens_per_second: float | None) -> None:
        arguments: list[str | float] = [
            candidate.name,
            ok,
            "" if ttft_s is None else ttft_s * 1000,
            "" if tokens_per_second is None else tokens_per_second,
            WEIGHT,
        ]
        try:
            with outages():
                self._observe(keys=[MEASURES], args=arguments)
        except Unavailable:
            return  # a lost observation is made good by the next one


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
