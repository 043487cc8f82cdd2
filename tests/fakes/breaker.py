"""Part breaker of routing/lua, and what the verb judge makes of it, in plain Python."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

RAMP_STEP, RAMP_STEPS = 3000, 10
IN_A_ROW = 4


@dataclass
class Breaker:
    is_open: bool = False
    generation: int = 0
    until: int = 0
    streak: int = 0
    probe: str = ""
    probe_until: int = 0
    ramp: int = 0
    let: int = 0
    cool: int = 0
    start: int | None = None
    row: int = 0  # failures since the last success
    rate: tuple[int, int, int, int] = (0, 0, 0, 0)  # good, bad of this period, and of the one before
    lock: str = ""
    key: str = ""  # that was refused
    is_unlisted: bool = False
    changed: int = 0
    learned: tuple[int, int, int] = (0, 0, 0)  # requests, tokens, until

    def kept(self) -> "Breaker":
        """What is left of it after a loss of Redis."""
        return replace(self, probe="", probe_until=0, let=0, start=None, row=0, rate=(0, 0, 0, 0), learned=(0, 0, 0))

    def why_not(self, now: int, held: Collection[str], key: str) -> tuple[str, int] | None:
        if self.cool > now:
            return "cooling", self.cool - now
        if self.is_open:
            if self.until > now and not (self.lock and key != self.key):
                return "locked" if self.lock else "open", self.until - now
            return ("probing", -1) if self.probe in held and self.probe_until > now else None
        step = (now - self.ramp) // RAMP_STEP
        if self.ramp and step < RAMP_STEPS and self.let >= 2**step:
            return "ramp", self.ramp + (step + 1) * RAMP_STEP - now
        return None

    def let_pass(self, attempt: str, now: int, slot_ms: int) -> bool:
        """Whether the call is the probe."""
        if self.is_open:
            self.probe, self.probe_until = attempt, now + slot_ms
            return True
        if self.ramp and (now - self.ramp) // RAMP_STEP < RAMP_STEPS:
            self.let += 1
        elif self.ramp:
            self.ramp = self.let = self.streak = 0
        return False

    def judge(self, ask: dict[str, Any], verdict: str, now: int) -> str:
        """What became of it: "opened", "closed" or nothing."""
        before = self.generation
        (self._judge_open if self.is_open else self._judge_closed)(ask, verdict, now)
        if self.generation == before:
            return ""
        self.changed = max(now, self.changed + 1)
        return "opened" if self.is_open else "closed"

    def _judge_closed(self, ask: dict[str, Any], verdict: str, now: int) -> None:
        if verdict == "open" or (verdict in ("good", "bad") and self._is_too_bad(ask, verdict, now)):
            self._trip(ask, verdict, now)

    def _is_too_bad(self, ask: dict[str, Any], verdict: str, now: int) -> bool:
        start = now if self.start is None else self.start
        good, bad, good_before, bad_before = self.rate
        row = self.row
        if now - start >= 2 * ask["period_ms"]:
            start, good, bad, good_before, bad_before, row = now, 0, 0, 0, 0, 0
        elif now - start >= ask["period_ms"]:
            start, good, bad, good_before, bad_before = start + ask["period_ms"], 0, 0, good, bad
        good, bad = good + (verdict == "good"), bad + (verdict == "bad")
        self.start, self.rate = start, (good, bad, good_before, bad_before)
        self.row = 0 if verdict == "good" else row + 1
        calls, failures = sum(self.rate), bad + bad_before
        is_back = self.ramp and (now - self.ramp) // RAMP_STEP < RAMP_STEPS
        is_over = calls >= (1 if is_back else ask["samples"]) and failures >= ask["threshold"] * calls
        return self.row >= IN_A_ROW * ask["samples"] or (verdict == "bad" and is_over)

    def _judge_open(self, ask: dict[str, Any], verdict: str, now: int) -> None:
        if ask["attempt"] and self.probe != ask["attempt"]:
            return
        if not ask["attempt"] and self.until > now:
            self._check_locked(ask, verdict, now)
        elif verdict == "good":
            self._close(now)
        elif verdict in ("bad", "open"):
            self._trip(ask, verdict, now)
        else:
            self.probe, self.probe_until = "", 0

    def _check_locked(self, ask: dict[str, Any], verdict: str, now: int) -> None:
        is_other = ask["key"] != self.key
        if not self.lock:
            return
        if verdict == "good" and (is_other or self.is_unlisted):
            self._close(now)
        elif verdict == "open" and is_other:
            self._trip(ask, verdict, now)
        elif verdict == "open" and not ask.get("again"):
            self.is_unlisted = True

    def _close(self, now: int) -> None:
        self.lock, self.key, self.is_unlisted = "", "", False
        self.is_open, self.until, self.probe, self.probe_until = False, 0, "", 0
        self.ramp, self.let, self.generation = now, 0, self.generation + 1

    def _trip(self, ask: dict[str, Any], verdict: str, now: int) -> None:
        is_of_key = verdict == "open"
        rest = ask["rest_ms"] if is_of_key else int(min(ask["rest_base_ms"] * 2**self.streak, ask["rest_max_ms"]))
        self.lock, self.key = (ask["lock"], ask["key"]) if is_of_key else ("", "")
        self.is_unlisted = is_of_key and not ask["attempt"] and not ask.get("again")
        self.is_open, self.until, self.generation = True, now + rest, self.generation + 1
        self.probe, self.probe_until, self.ramp, self.let = "", 0, 0, 0
        self.start, self.row, self.rate, self.streak = None, 0, (0, 0, 0, 0), self.streak + 1
