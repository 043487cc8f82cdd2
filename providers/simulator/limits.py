"""Rate limits as a provider keeps them: rolling windows of calls and tokens, and calls at once, per simulated provider.

Tokens are counted when a call is let in: its prompt and the answer that it will get. `now` is seconds of any clock.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Limit:
    """Calls and tokens per window, calls at once; None is no limit. `window` is in seconds."""

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    window: float = 60.0


@dataclass(frozen=True, slots=True)
class Gauge:
    """What rate-limit headers tell: of calls and of tokens (limit, remaining, seconds until all is free again)."""

    requests: tuple[int, int, float] | None
    tokens: tuple[int, int, float] | None


@dataclass(slots=True)
class Meter:
    limit: Limit = Limit()
    calls: int = 0
    refused: int = 0
    concurrent: int = 0
    max_concurrent: int = 0
    max_in_window: int = 0
    _arrived: deque[float] = field(default_factory=deque)
    _taken: deque[tuple[float, int]] = field(default_factory=deque)
    _tokens: int = 0

    def arrive(self, now: float) -> None:
        """Counts a call, let in or not. Every arrival is followed by one `leave`."""
        self._forget(now)
        self._arrived.append(now)
        self.calls += 1
        self.concurrent += 1
        self.max_concurrent = max(self.max_concurrent, self.concurrent)
        self.max_in_window = max(self.max_in_window, len(self._arrived))

    def leave(self) -> None:
        self.concurrent -= 1

    def take(self, now: float, tokens: int) -> float | None:
        """Lets a call that has arrived in, and returns None; or the seconds after which to try again."""
        self._forget(now)
        wait = self._wait(now, tokens)
        if wait is None:
            self._taken.append((now, tokens))
            self._tokens += tokens
        else:
            self.refused += 1
        return wait

    def gauge(self, now: float) -> Gauge:
        self._forget(now)
        reset = max(0.0, self._taken[-1][0] + self.limit.window - now) if self._taken else 0.0
        return Gauge(_room(self.limit.rpm, len(self._taken), reset), _room(self.limit.tpm, self._tokens, reset))

    def report(self) -> dict[str, Any]:
        limit = self.limit
        return {
            "rpm": limit.rpm,
            "tpm": limit.tpm,
            "concurrency": limit.concurrency,
            "window": limit.window,
            "calls": self.calls,
            "refused": self.refused,
            "max_in_window": self.max_in_window,
            "concurrent": self.concurrent,
            "max_concurrent": self.max_concurrent,
        }

    def _wait(self, now: float, tokens: int) -> float | None:
        limit = self.limit
        if limit.concurrency is not None and self.concurrent > limit.concurrency:
            return 1.0
        if limit.rpm is not None and len(self._taken) >= limit.rpm:
            return self._taken[0][0] + limit.window - now if self._taken else limit.window
        if limit.tpm is not None and self._tokens + tokens > limit.tpm:
            return self._until_free(now, self._tokens + tokens - limit.tpm)
        return None

    def _until_free(self, now: float, tokens: int) -> float:
        for at, spent in self._taken:
            tokens -= spent
            if tokens <= 0:
                return at + self.limit.window - now
        return self.limit.window

    def _forget(self, now: float) -> None:
        past = now - self.limit.window
        while self._arrived and self._arrived[0] <= past:
            self._arrived.popleft()
        while self._taken and self._taken[0][0] <= past:
            self._tokens -= self._taken.popleft()[1]


def _room(limit: int | None, used: int, reset: float) -> tuple[int, int, float] | None:
    return None if limit is None else (limit, max(0, limit - used), reset)
