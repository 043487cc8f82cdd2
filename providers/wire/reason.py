"""Reasoning that vendors want back with the calls that it led to: put together from its pieces, opaque and bounded."""

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from typing import Any

from providers.errors import Malformed
from providers.message import Chat, Event, Message, Reasoned
from providers.wire.field import entries, text, tree

LONGEST = 2**22  # characters, of all blocks of an answer
MOST_BLOCKS = 1024


class Blocks:
    """Blocks of one answer. They are told right before the calls that they led to; without calls nobody wants them."""

    __slots__ = ("_done", "_said", "_signature", "_size")

    def __init__(self) -> None:
        self._done: list[Reasoned] = []
        self._said = StringIO()
        self._signature = StringIO()
        self._size = 0

    def add(self, words: str = "", signature: str = "") -> None:
        """A piece of the block that is open. Raises Malformed for more than anybody would think."""
        self._grow(len(words) + len(signature))
        self._said.write(words)
        self._signature.write(signature)

    def hide(self, data: str) -> None:
        """A block that nobody may read."""
        self._grow(len(data))
        self.end()
        self._keep(Reasoned("", data, is_hidden=True))

    def add_all(self, blocks: Any) -> bool:
        """Blocks or pieces of them as LiteLLM has them, where a signature ends one. True when there were any."""
        found = [block for block in map(tree, entries(blocks)) if block]
        for block in found:
            if data := text(block.get("data")):
                self.hide(data)
                continue
            signature = text(block.get("signature"))
            self.add(text(block.get("thinking")), signature)
            if signature:
                self.end()
        return bool(found)

    def end(self) -> None:
        """The open block is whole."""
        block = Reasoned(self._said.getvalue(), self._signature.getvalue())
        if block.text or block.signature:
            self._keep(block)
            self._said, self._signature = StringIO(), StringIO()

    def tell(self, out: list[Event]) -> None:
        """All that there are are whole."""
        self.end()
        out.extend(self._done)
        self._done.clear()
        self._size = 0

    def _keep(self, block: Reasoned) -> None:
        self._done.append(block)
        if len(self._done) > MOST_BLOCKS:
            raise Malformed("the answer was thought about in more blocks than anybody would")

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > LONGEST:
            raise Malformed("the answer was thought about in more words than anybody would")


def signed(message: Message) -> list[dict[str, Any]]:
    """Blocks that their vendor signed, in the words of Anthropic and of LiteLLM."""
    return [
        {"type": "redacted_thinking", "data": one.signature}
        if one.is_hidden
        else {"type": "thinking", "thinking": one.text, "signature": one.signature}
        for one in message.reasoned
        if one.signature
    ]


def open_text(message: Message) -> str:
    """What may be read of a message's reasoning."""
    return "".join(one.text for one in message.reasoned)


def answerable(chat: Chat) -> Chat:
    """The chat, without the wish to reason when the calls that it goes on from came without what was reasoned: a vendor
    that signs its reasoning refuses to think on from calls that have lost it, or were another vendor's."""
    if not chat.reasoning or not _goes_on(chat.messages):
        return chat
    calling = next((message for message in reversed(chat.messages) if message.calls), None)
    return chat if calling is None or signed(calling) else replace(chat, reasoning=False)


def _goes_on(messages: Sequence[Message]) -> bool:
    return bool(messages) and messages[-1].role == "tool"
