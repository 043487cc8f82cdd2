"""The verbs of the answer cache in plain Python, beside the scripts; `now` (Unix ms) is an argument."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    text: str
    ends: int
    used: int


@dataclass
class CacheTwin:
    answers: dict[str, Answer] = field(default_factory=dict)
    flights: dict[str, tuple[str, int]] = field(default_factory=dict)  # flyer, until

    def run(self, verb: str, value: dict[str, Any], now: int) -> list[Any]:
        self.answers = {request: answer for request, answer in self.answers.items() if answer.ends > now}
        self.flights = {request: flight for request, flight in self.flights.items() if flight[1] > now}
        return {"recall": self.recall, "keep": self.keep, "land": self.land}[verb](value, now)

    def recall(self, value: dict[str, Any], now: int) -> list[Any]:
        request, flyer = value["request"], value["flyer"]
        if (answer := self.answers.get(request)) is not None:
            answer.used = now
            return ["hit", answer.text]
        current, until = self.flights.get(request, (flyer, 0))
        if current != flyer:
            return ["wait"] if current else ["alone"]
        self.flights[request] = (flyer, max(until, now + value["lease_ms"]))
        return ["fly"]

    def keep(self, value: dict[str, Any], now: int) -> list[Any]:
        if len(value["text"].encode()) > value["bytes"]:
            return ["too_large"]
        self.answers[value["request"]] = Answer(value["text"], now + value["ttl_ms"], now)
        dropped = 0
        while self.bytes > value["bytes"] or len(self.answers) > value["entries"]:
            del self.answers[min(self.answers, key=lambda request: (self.answers[request].used, request))]
            dropped += 1
        return ["kept", dropped]

    def land(self, value: dict[str, Any], now: int) -> list[Any]:
        request = value["request"]
        if self.flights.get(request, ("", 0))[0] != value["flyer"]:
            return ["unknown"]
        del self.flights[request]
        if value["alone_ms"] > 0:
            self.flights[request] = ("", now + value["alone_ms"])
        return ["landed"]

    @property
    def bytes(self) -> int:
        return sum(len(answer.text.encode()) for answer in self.answers.values())
