"""What has come back from a call so far, and what it costs."""

from dataclasses import asdict, dataclass, field
from itertools import takewhile

from goblin.money import MOST
from ledger.attempts import Charge
from providers.message import Finish, Reasoned, ToolCall, Usage
from providers.price import Price, cost
from providers.tokens import Tally, estimate


@dataclass(slots=True)
class Spoken:
    """What has come back so far and what it costs: as the vendor counted once the answer is whole, estimated before."""

    price: Price
    input_tokens: int
    text: list[str] = field(default_factory=list)
    size: int = 0  # characters of text
    reported: Usage | None = None
    finish: Finish | None = None
    calls: list[ToolCall] = field(default_factory=list)
    reasoned: list[Reasoned] = field(default_factory=list)  # what led to the calls
    called_tokens: int = 0  # estimated; part of the output's
    held: int | None = None  # nano-dollars, once the answer was cut because it would have cost more
    _said: Tally = field(default_factory=Tally)
    _thought: Tally = field(default_factory=Tally)

    def report(self, usage: Usage) -> None:
        """What the vendor has counted so far. More than any budget can hold is nobody's bill, nor is it entered."""
        if cost(self.price, usage) <= MOST:
            self.reported = usage

    def hear(self, text: str) -> int:
        """The tokens by which the answer grows."""
        return self._said.add(text)

    def overhear(self, thought: str) -> None:
        self._thought.add(thought)

    def cut(self, held: int) -> None:
        """No more of it is wanted: it ends here as one that has reached its length."""
        self.held, self.finish = held, Finish("length", "it would have cost more than was held for it")

    @property
    def output_tokens(self) -> int:
        """Estimated."""
        return self._said.tokens + self._thought.tokens + self.called_tokens

    @property
    def is_measured(self) -> bool:
        return self.finish is not None and self._is_counted and self.held is None

    @property
    def _is_counted(self) -> bool:
        """A question without any tokens was not counted, nor were words without any."""
        counted = self.reported
        return counted is not None and counted.input > 0 and (counted.output > 0 or not self.has_streamed)

    @property
    def usage(self) -> Usage:
        known = self.reported or Usage()
        if self.is_measured:
            return known
        return Usage(
            known.input or self.input_tokens,
            known.cache_read,
            known.cache_write,
            max(known.output, self.output_tokens),
            max(known.reasoning, self._thought.tokens),
        )

    @property
    def cost(self) -> int:
        """Nano-dollars."""
        return cost(self.price, self.usage)

    @property
    def has_streamed(self) -> bool:
        return self.output_tokens > 0

    def charge(self) -> Charge:
        usage = self.usage
        return Charge(
            amount=self._owed(),
            is_measured=self.is_measured,
            price=asdict(self.price.at(usage.input)),
            input=usage.input,
            cache_read=usage.cache_read,
            cache_write=usage.cache_write,
            output=usage.output,
            reasoning=usage.reasoning,
        )

    def call(self, call: ToolCall) -> None:
        tokens = estimate(f"{call.name} {call.arguments}")
        self.calls.append(call)
        self.size += len(call.id) + len(call.name) + len(call.arguments) + len(call.signature)
        self.called_tokens += tokens

    def recall(self, block: Reasoned) -> None:
        """Its words were overheard already."""
        self.reasoned.append(block)
        self.size += len(block.text) + len(block.signature)

    def _owed(self) -> int:
        """Nano-dollars to enter. What was cut is owed what was held: the estimate leans high, and the vendor may have
        sent more than was read. Only what is far beyond that was certainly sent."""
        if self.held is None or 4 * self.cost > 5 * self.held:
            return self.cost
        return self.held


def go_on(text: str, unsent: str) -> tuple[str, str]:
    """What is new of a text that goes on behind white space which it was not told of, and the rest of that white space
    with which the text after this one may still begin."""
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, unsent, strict=False)))
    return text[shared:], unsent[shared:] if shared == len(text) else ""
