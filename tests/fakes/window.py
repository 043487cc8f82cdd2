"""Part window of routing/lua in plain Python: what a scope sent of late, every sum taken anew."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

GRAIN = 250  # ms of a window's bucket


@dataclass
class Window:
    requests: dict[int, int] = field(default_factory=lambda: defaultdict(int))  # by bucket
    tokens: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    first: int = 0  # the oldest bucket that counts
    last: int = 0
    request_tat: float = 0
    token_tat: float = 0

    def look(self, now: int, span: int) -> None:
        self.first = max(self.first, (now - span) // GRAIN)
        for counts in (self.requests, self.tokens):
            for bucket in [bucket for bucket in counts if bucket < self.first]:
                del counts[bucket]

    def bucket(self, now: int) -> int:
        return max(now // GRAIN, self.last)

    def add(self, bucket: int, requests: int, tokens: int) -> None:
        if bucket >= self.first:
            self.requests[bucket] += requests
            self.tokens[bucket] += tokens

    def take(self, limits: dict[str, Any], tokens: int, now: int, span: int) -> int:
        """Count a call: its bucket."""
        bucket = self.bucket(now)
        self.add(bucket, 1, tokens)
        self.last = bucket
        if limits["rpm"]:
            self.request_tat = max(self.request_tat, now) + span / limits["rpm"]
        if limits["tpm"]:
            self.token_tat = max(self.token_tat, now) + tokens * span / limits["tpm"]
        return bucket

    def has_room(self, rpm: int, tpm: int, tokens: int) -> bool:
        """For a call whose place has left; one without known limits had none but that."""
        if not rpm and not tpm:
            return False
        return (not rpm or sum(self.requests.values()) < rpm) and (not tpm or sum(self.tokens.values()) + tokens <= tpm)

    def learn(self, ask: dict[str, Any], now: int) -> None:
        """What others have sent with the same key, by the vendor's count."""
        span = ask["span"]
        self.look(now, span)
        self.last = self.bucket(now)
        others = max(0, ask["used_requests"] - sum(self.requests.values()))
        if ask["requests_free_ms"] > 0:
            self.add((now + min(ask["requests_free_ms"], span) - span) // GRAIN, others, 0)
        others = max(0, ask["used_tokens"] - sum(self.tokens.values()))
        if ask["tokens_free_ms"] > 0:
            self.add((now + min(ask["tokens_free_ms"], span) - span) // GRAIN, 0, others)

    def why_not(self, limits: dict[str, Any], tokens: int, now: int, span: int) -> tuple[str, int] | None:
        """The reason and the ms to wait, when there is no room."""
        wait: float = 0
        reason = ""

        def consider(name: str, ms: float) -> None:
            nonlocal wait, reason
            if ms > wait:
                wait, reason = ms, name

        def paced(tat: float, limit: int, cost: int, burst: int) -> float:
            due = cost * span / limit
            return math.floor(max(tat - now, 0) - max(burst - due, 0))

        def leaves(counts: dict[int, int], excess: int) -> int:
            for bucket in sorted(counts):
                excess -= counts[bucket]
                if excess <= 0:
                    return (bucket + 1) * GRAIN + span - now
            return span

        if limits["rpm"]:
            if (excess := sum(self.requests.values()) + 1 - limits["rpm"]) > 0:
                consider("requests", leaves(self.requests, excess))
            consider("requests", paced(self.request_tat, limits["rpm"], 1, limits["request_burst"]))
        if limits["tpm"]:
            if tokens > limits["tpm"]:
                return "too_large", -1
            if (excess := sum(self.tokens.values()) + tokens - limits["tpm"]) > 0:
                consider("tokens", leaves(self.tokens, excess))
            consider("tokens", paced(self.token_tat, limits["tpm"], tokens, limits["token_burst"]))
        return (reason, math.ceil(wait)) if reason else None
