"""All that the simulator knows between two resets: the sheet, the faults in force, the meters and the book.

A reset makes a new world; a call that began in the old one ends there and leaves no trace in the new.
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import count

from providers.simulator.behaviour import BadDirective, Behaviour, parse
from providers.simulator.invoice import Book
from providers.simulator.limits import Limit, Meter
from providers.simulator.refusal import Kind, Refused
from providers.simulator.sheet import Model, Sheet
from providers.simulator.vector import Index


@dataclass(slots=True)
class World:
    sheet: Sheet
    book: Book = field(default_factory=Book)
    indexes: dict[tuple[str, str, str], Index] = field(default_factory=dict)  # by simulated provider, account and name
    ids: "count[int]" = field(default_factory=lambda: count(1))
    _faults: dict[tuple[str, str], str] = field(default_factory=dict)
    _meters: dict[str, Meter] = field(default_factory=dict)
    _failed: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def find(self, name: str, model: str) -> tuple[Behaviour, Model]:
        """How a call is to be served, and the model's row. Raises Refused."""
        behaviour = self.behaviour(name, model)
        row = self.sheet.models.get(behaviour.base)
        if row is None:
            raise Refused(Kind.NOT_FOUND, f"model '{model}' not found")
        return behaviour, row

    def behaviour(self, name: str, model: str = "") -> Behaviour:
        """What a model's name says, then the faults in force. Without a model, only faults of all models count."""
        try:
            return parse(model + self._faults_of(name, model)) if self._faults else parse(model)
        except BadDirective as error:
            raise Refused(Kind.BAD_REQUEST, str(error)) from error

    def set_faults(self, name: str, model: str, directives: str) -> None:
        """Replaces the faults of a name and a pattern of models; empty clears. Raises BadDirective."""
        if directives and not directives.startswith("+"):
            raise BadDirective("directives begin with +")
        parse(directives)
        for key in [key for key in self._failed if key[1] == name]:
            del self._failed[key]
        if directives:
            self._faults[name, model] = directives
        else:
            self._faults = {
                key: value for key, value in self._faults.items() if key[0] != name or model not in ("*", key[1])
            }

    def faults(self) -> list[dict[str, str]]:
        return [{"name": name, "model": model, "directives": text} for (name, model), text in self._faults.items()]

    def fails_still(self, path: str, name: str, model: str, times: int) -> bool:
        """True for the first so many requests of a kind."""
        if not times:
            return False
        self._failed[path, name, model] += 1
        return self._failed[path, name, model] <= times

    def meter(self, name: str) -> Meter:
        return self._meters.setdefault(name, Meter())

    def set_limit(self, name: str, limit: Limit) -> None:
        self.meter(name).limit = limit

    def limits(self) -> dict[str, dict[str, object]]:
        return {name: meter.report() for name, meter in sorted(self._meters.items())}

    def _faults_of(self, name: str, model: str) -> str:
        base = model.partition("+")[0]
        return "".join(
            directives
            for (owner, pattern), directives in self._faults.items()
            if owner in (name, "*") and (pattern in (model, base) or fnmatchcase(model, pattern))
        )


class House:
    """Holds the world of now."""

    def __init__(self, sheet: Sheet) -> None:
        self.world = World(sheet)

    def reset(self) -> None:
        self.world = World(self.world.sheet)


def clock() -> float:
    """Seconds for the meters."""
    return time.monotonic()
