"""How the candidates have been doing, shared by the fleet in Redis, and who is left alone by the breakers just now.

A reader keeps its snapshot for a moment, so that ranking costs no round trip per step; admission decides by the moment.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import redis

from goblin.errors import Breaker, GoblinError, Unavailable
from goblin.kv import outages
from routing.candidate import Candidate
from routing.patience import Habit
from routing.score import Measure
from routing.script import PREFIX, Verb

MEASURES = f"{PREFIX}:health"  # written by the verb `observe`
RESTS = f"{PREFIX}:rests"  # written by the verb `judge`
FRESH = 1.0  # seconds that a snapshot is good for
WEIGHT = 0.2  # of the newest sample
BELIEVED = 20  # seconds: whoever failed is not asked, so nothing else would ever show that it has recovered
TELLING = 200  # estimated input tokens
TALK_S = 0.1  # from the first token to the end, in which an answer shows how quickly it is made
MOST_COUNTED = 4.0  # times the estimate: a vendor that claims more is not believed beforehand
SURE = 10  # calls from which a percentile is taken seriously


@dataclass(frozen=True, slots=True)
class Known:
    """Of one candidate; numbers below zero were not measured. `seen` is when a call of it ended last (Unix seconds)."""

    measure: Measure
    seen: float
    habit: Habit
    counted: float | None = None  # input tokens for each that was estimated, which 19 of 20 calls keep within


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

    def counted(self, candidate: Candidate) -> Candidate:
        """The candidate, counting input as it was seen to: the catalog's word was for the time before.

        Never less than is estimated: that is the most for any text, and what was seen is the share of those that came.
        """
        known = self.candidates.get(candidate.name)
        if known is None or known.counted is None:
            return candidate
        return candidate._replace(counted=min(max(known.counted, 1.0), MOST_COUNTED))

    def resting(self, now: float) -> dict[str, str]:
        """Providers and candidates to leave alone at `now` (Unix seconds), with the reason."""
        return {
            who: f"{reason}; rests for {until - now:.0f} s"
            for who, (until, reason) in self.rests.items()
            if until > now
        }


EMPTY = Snapshot({}, {})


class Health:
    """Reads the fleet's knowledge; one per process, safe for many threads.

    Whoever tells Redis of a call's end sends `success` or `failure` along.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
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


def success(
    candidate: Candidate,
    ttft_s: float | None,
    tokens_per_second: float | None,
    habit: Habit = Habit(),  # noqa: B008
    counted: float | None = None,
) -> Verb:
    """The verb that tells of a call which ended well; `habit` is how long it has taken, at the longest, `counted` the
    input tokens that the vendor counted for each that was estimated."""
    return _observe(candidate, 1, habit, ttft_ms=_ms(ttft_s), speed=tokens_per_second, counted=_ms(counted))


def share_counted(input_tokens: int, estimated: int) -> float | None:
    """Input tokens that a vendor counted for each that was estimated, as far as that is believed: a count out of all
    proportion would be remembered for a thousand calls. None for a prompt too short to tell: what vendors add to every
    prompt would be taken for a share."""
    return min(input_tokens / estimated, MOST_COUNTED) if estimated >= TELLING else None


def speed(tokens: int, talking_s: float) -> float | None:
    """Tokens per second of an answer that took so long behind its first token; None for one that came too quickly to
    tell: a word in one piece would be taken for thousands a second, and believed for dozens of calls."""
    return tokens / talking_s if tokens and talking_s >= TALK_S else None


def failure(candidate: Candidate, error: GoblinError, waited: Habit = Habit()) -> Verb:  # noqa: B008
    """What is not the provider's doing says nothing about its success. `waited` is what it was given in vain."""
    is_its_own = error.breaker in {Breaker.COUNT, Breaker.OPEN}
    return _observe(candidate, 0 if is_its_own else None, waited)


def _observe(candidate: Candidate, ok: int | None, slow: Habit, **measured: float | None) -> Verb:
    told = {
        "candidate": candidate.name,
        "ok": ok,
        "weight": WEIGHT,
        "believed_s": BELIEVED,
        "slow_ttft_ms": _ms(slow.ttft_s),
        "slow_silence_ms": _ms(slow.silence_s),
        "slow_connect_ms": _ms(slow.connect_s),
        "slow_token_ms": _ms(slow.token_s),
        **measured,
    }
    return "observe", {name: value for name, value in told.items() if value is not None}


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _known(text: str) -> Known:
    ttft, success, speed, samples, *later = text.split(" ")
    later += ["0", *["-", "0"] * 5][len(later) :]  # an older release's
    seen, *slow = later
    ttft_s, silence_s, share, connect_s, token_s = map(_usual, slow[::2], slow[1::2])
    measure = Measure(
        -1 if ttft == "-" else float(ttft) / 1000,
        -1 if samples == "0" else float(success),
        -1 if speed == "-" else float(speed),
    )
    return Known(measure, float(seen), Habit(ttft_s, silence_s, connect_s, token_s), share)


def _usual(thousandths: str, calls: str) -> float | None:
    return float(thousandths) / 1000 if int(calls) >= SURE else None


def _rest(text: str) -> tuple[float, str]:
    until, _, reason = text.partition(" ")
    return int(until) / 1000, reason
