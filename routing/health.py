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
from routing.patience import Habit
from routing.score import Measure
from routing.script import PREFIX

MEASURES = "goblin:health:measures"
RESTS = f"{PREFIX}:rests"  # written by the verb `judge`
FRESH = 1.0  # seconds that a snapshot is good for
WEIGHT = 0.2  # of the newest sample
BELIEVED = 20  # seconds: whoever failed is not asked, so nothing else would ever show that it has recovered
SURE = 10  # calls from which a percentile is taken seriously


@dataclass(frozen=True, slots=True)
class Known:
    """Of one candidate; numbers below zero were not measured. `seen` is when a call of it ended last (Unix seconds)."""

    measure: Measure
    seen: float
    habit: Habit


@dataclass(frozen=True, slots=True)
class Snapshot:
    candidates: Mapping[str, Known]
    rests: Mapping[str, tuple[float, str]]  # until (Unix seconds), reason
    read: float = 0.0  # Unix seconds

    def measure(self, candidate: Candidate) -> Measure:
        """What was measured, and the catalog's priors for what was not."""
        prior = candidate.provider.prior
        known = self.candidates.get(candidate.name)
        if known is None:
            return Measure(prior.ttft_s, prior.success_rate, prior.tokens_per_second)
        found, is_recent = known.measure, self.read - known.seen < BELIEVED
        return Measure(
            found.ttft_s if found.ttft_s >= 0 else prior.ttft_s,
            found.success if found.success >= 0 and is_recent else prior.success_rate,
            found.tokens_per_second if found.tokens_per_second >= 0 else prior.tokens_per_second,
        )

    def habit(self, candidate: Candidate) -> Habit:
        known = self.candidates.get(candidate.name)
        return known.habit if known else Habit()

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
                {name: _known(text) for name, text in measures.items()},
                {who: _rest(text) for who, text in rests.items()},
                time.time(),
            )
        except Unavailable:
            pass
        finally:
            self._read_at = time.monotonic()
            self._lock.release()
        return self._snapshot

    def succeeded(
        self,
        candidate: Candidate,
        ttft_s: float | None,
        tokens_per_second: float | None,
        silence_s: float | None = None,
    ) -> None:
        """`silence_s` is the longest silence between two pieces of the answer."""
        speed: str | float = "" if tokens_per_second is None else tokens_per_second
        self._fold(candidate, "1", _ms(ttft_s), speed, _ms(ttft_s), _ms(silence_s))

    def failed(self, candidate: Candidate, error: GoblinError, waited: Habit = Habit()) -> None:  # noqa: B008
        """What is not the provider's doing says nothing about its success. `waited` is what it was given in vain."""
        is_its_own = error.breaker in {Breaker.COUNT, Breaker.OPEN}
        self._fold(candidate, "0" if is_its_own else "-1", "", "", _ms(waited.ttft_s), _ms(waited.silence_s))

    def _fold(
        self,
        candidate: Candidate,
        ok: str,
        ttft_ms: str | float,
        speed: str | float,
        slow_ttft_ms: str | float,
        slow_silence_ms: str | float,
    ) -> None:
        arguments = [candidate.name, ok, ttft_ms, speed, WEIGHT, slow_ttft_ms, slow_silence_ms, BELIEVED]
        try:
            with outages():
                self._observe(keys=[MEASURES], args=arguments)
        except Unavailable:
            return  # a lost observation is made good by the next one


def _ms(seconds: float | None) -> str | float:
    return "" if seconds is None else seconds * 1000


def _known(text: str) -> Known:
    ttft, success, speed, samples, *later = text.split(" ")
    seen, slow_ttft, ttfts, slow_silence, silences = later or ("0", "-", "0", "-", "0")  # an older release's
    measure = Measure(
        -1 if ttft == "-" else float(ttft) / 1000,
        -1 if samples == "0" else float(success),
        -1 if speed == "-" else float(speed),
    )
    return Known(measure, float(seen), Habit(_usual(slow_ttft, ttfts), _usual(slow_silence, silences)))


def _usual(ms: str, calls: str) -> float | None:
    return float(ms) / 1000 if int(calls) >= SURE else None


def _rest(text: str) -> tuple[float, str]:
    until, _, reason = text.partition(" ")
    return int(until) / 1000, reason
