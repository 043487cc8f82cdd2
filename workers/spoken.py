"""What has come back from a call so far, and what it costs."""

from dataclasses import asdict, dataclass, field

from ledger.attempts import Charge
from providers.message import Finish, ToolCall, Usage
from providers.price import Price, cost
from providers.tokens import estimate


@dataclass(slots=True)
class Spoken:
    """What has come back so far and what it costs: as the vendor counted once the answer is whole, estimated before."""

    price: Price
    input_tokens: int
    text: list[str] = field(default_factory=list)
    size: int = 0  # characters of text
    output_tokens: int = 0
    reported: Usage | None = None
    finish: Finish | None = None
    calls: list[ToolCall] = field(default_factory=list)
    called_tokens: int = 0  # estimated; part of the output's

    @property
    def is_measured(self) -> bool:
        return self.finish is not None and self.reported is not None

    @property
    def usage(self) -> Usage:
        if self.reported is not None and self.is_measured:
            return self.reported
        known = self.reported or Usage(input=self.input_tokens)
        return Usage(
            known.input, known.cache_read, known.cache_write, max(known.output, self.output_tokens), known.reasoning
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
            amount=self.cost,
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
        self.size += len(call.id) + len(call.name) + len(call.arguments)
        self.called_tokens += tokens
        self.output_tokens += tokens
