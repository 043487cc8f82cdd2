"""May this call be made now? One atomic decision for the whole fleet, asked between ranking and opening an attempt.

Redis counts, Postgres knows: after a loss or a restart of Redis every ask is refused until routing.rebuild has counted
anew. The verbs are in routing/lua; what is asked is in routing.ask, why not in routing.refusal.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from goblin.kv import outages
from routing import breaker, budget
from routing.ask import ARRIVAL_MS, CANDIDATES, SPAN_MS, Ask, Place, as_values
from routing.breaker import Change, Contact, Knobs, Seen
from routing.budget import Budget, State
from routing.refusal import Refused, Short, shorts
from routing.script import Scripts, Verb


@dataclass(frozen=True, slots=True)
class Admitted:
    """The place that was taken. An attempt may only be opened under the `generation` that admitted it."""

    attempt: uuid.UUID
    place: Place
    generation: str
    admitted_at: datetime  # by Redis' clock: these hour and day pay
    is_probe: bool
    counters: tuple[str, ...]  # the budgets that hold
    passed: tuple[Short, ...] = ()  # those before it in order of preference, which had no room


@dataclass(frozen=True, slots=True)
class Used:
    """What a call really took: nano-dollars, and tokens as the vendor counts them against its limits."""

    amount: int
    input: int = 0
    output: int = 0


class Admission:
    """The fleet's one gate. Every method is one round trip and raises Unavailable when Redis cannot be reached.

    `keep` is given every change of a breaker, to write it down where it outlives Redis.
    """

    def __init__(
        self,
        scripts: Scripts,
        knobs: Knobs = Knobs(),  # noqa: B008
        keep: Callable[[Sequence[Change]], None] | None = None,
    ) -> None:
        self.scripts = scripts
        self._knobs = knobs
        self._keep = keep

    def admit(self, ask: Ask) -> Admitted | Refused:
        """Take a place for the first candidate that has room. Asking twice for one attempt takes one place."""
        places = ask.places[:CANDIDATES]
        answer = self.scripts.run("admit", *as_values(ask))
        if answer[0] == "rebuilding":
            return Refused(())
        if answer[0] == "refused":
            return Refused(shorts(places, answer[1:]))
        _, index, at_ms, generation, is_probe, *passed = answer
        place = places[index]
        names = budget.names_at((*ask.budgets, *place.budgets), at_ms)
        admitted_at = datetime.fromtimestamp(at_ms / 1000, UTC)
        return Admitted(ask.attempt, place, generation, admitted_at, bool(is_probe), names, shorts(places, passed))

    def arrive(self, attempt: uuid.UUID) -> bool:
        """An admitted call is made now: False when it may not be, as its place in the minute has left and there is no
        other, or nothing is held for it any more. What is admitted counts as of now if that is later than it may be."""
        return bool(self.scripts.run("arrive", {"attempt": str(attempt), "late": ARRIVAL_MS}) == ["arrived"])

    def settle(
        self, attempt: uuid.UUID, used: Used, *, generation: str = "", counters: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Turn a hold into what was spent, once, after the ledger has it: the budgets that have just passed 80 %.

        `generation` and `counters` of the admission serve when Redis lost the record but not the counters.
        """
        return _alerts(self.scripts.run("settle", _settlement(attempt, used, generation, counters)))

    def extend(self, attempt: uuid.UUID, amount: int) -> bool:
        """Hold `amount` (nano-dollars) in all for an admitted call, or as before: whether there was room."""
        return bool(self.scripts.run("extend", {"attempt": str(attempt), "amount": amount}) == ["extended"])

    def correct(self, attempt: uuid.UUID, amount: int) -> None:
        """A call that was settled unseen has cost `amount` (nano-dollars) in all, as the ledger knows now."""
        self.scripts.run("correct", {"attempt": str(attempt), "amount": amount})

    def conclude(self, admitted: Admitted, used: Used, outcome: Seen, *more: Verb) -> tuple[str, ...]:
        """`observe` and `settle` of an admitted call, and `more` verbs, in one round trip."""
        place = admitted.place
        judged = breaker.as_ask(
            str(admitted.attempt), place.provider, place.candidate, outcome, self._knobs, SPAN_MS, place.key
        )
        settled = _settlement(admitted.attempt, used, admitted.generation, admitted.counters)
        changed, alerts, *_ = self.scripts.run_all([("judge", judged), ("settle", settled), *more])
        self._note(changed)
        return _alerts(alerts)

    def release(self, attempt: uuid.UUID) -> None:
        """The call was never made: give everything back. Harmless after a settlement, or twice."""
        self.scripts.run("release", {"attempt": str(attempt)})

    def observe(
        self, provider: str, candidate: str | None, outcome: Seen, attempt: uuid.UUID | None = None, *, key: str = ""
    ) -> dict[str, str]:
        """Tell the breakers how a call ended: which of them were opened, closed or cooled by that.

        Before its settlement if the call was admitted; without `attempt` it counts as of now. A check of the provider
        that asks for none of its models has no `candidate`. `key` is the fingerprint of the one that was used.
        """
        asked = breaker.as_ask(str(attempt or ""), provider, candidate, outcome, self._knobs, SPAN_MS, key)
        return {change.name: change.what for change in self._note(self.scripts.run("judge", asked))}

    def _note(self, answer: Sequence[str]) -> Sequence[Change]:
        found = breaker.changes(answer)
        if self._keep is not None:
            self._keep(found)
        return found

    def contacts(self, providers: Sequence[tuple[str, str]]) -> list[Contact]:
        """When each provider (its id and its key's fingerprint) was last heard of, for all in one round trip."""
        with outages():
            pipe = self.scripts.client.pipeline(transaction=False)
            pipe.time()
            for provider, _ in providers:
                pipe.hmget(f"{self.scripts.prefix}:breaker:{provider}", list(breaker.CONTACT))
            (now_s, now_us), *found = pipe.execute()
        now_ms = now_s * 1000 + now_us // 1000
        return [breaker.contact(values, now_ms, key) for values, (_, key) in zip(found, providers, strict=True)]

    def generation(self) -> str | None:
        """Whose counters are in use; None while there are none."""
        with outages():
            value: str | None = self.scripts.client.get(f"{self.scripts.prefix}:generation")  # type: ignore[assignment]
            return value

    def budgets(self, wanted: Sequence[Budget]) -> list[State]:
        """These budgets in their present windows, as far as anything was counted of them. Empty while the counters are
        being rebuilt."""
        generation = self.generation()
        if generation is None or not wanted:
            return []
        client = self.scripts.client
        with outages():
            now_ms = client.time()[0] * 1000
            names = budget.names_at(wanted, now_ms)
            texts: list[str | None] = client.hmget(f"{self.scripts.root(generation)}money", names)  # type: ignore[assignment]
        return [budget.read(name, text) for name, text in zip(names, texts, strict=True) if text]


def _settlement(attempt: uuid.UUID, used: Used, generation: str, counters: Sequence[str]) -> dict[str, Any]:
    return {
        "attempt": str(attempt),
        "amount": used.amount,
        "input": used.input,
        "output": used.output,
        "generation": generation,
        "budgets": list(counters),
    }


def _alerts(answer: Sequence[str]) -> tuple[str, ...]:
    return tuple(answer[1:])
