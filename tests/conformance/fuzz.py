"""Feeds spoilt answers to every reader of strangers' bytes, for as long as wanted: `make fuzz MINUTES=60`.

Transcripts are cut, crossed, repeated and sown with what breaks readers, then fed in pieces of any size. Allowed are
events that can be stored and our own errors; the same bytes must mean the same however they are cut, and what a
decoder holds stays bounded. Every case is made from a number that is printed when it fails: `--case N` plays it again.
"""

import argparse
import json
import random
import resource
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from providers import limit, vectorize
from providers.errors import ProviderFault
from providers.message import Event, Finish, Reasoned, Report, Text, Thought, ToolCall
from providers.wire.embedding import EMBEDDING
from providers.wire.spoken import SPOKEN
from tests.fakes.said import framed
from tests.fakes.transcripts import TRANSCRIPTS
from tests.fakes.vendor import provider

Outcome: TypeAlias = tuple[list[Event], str]

HELD = 24 * 2**20  # bytes that one decoder may hold, whatever comes
ENDLESS = 32 * 2**20  # bytes of an answer that never ends
ENDLESS_EVERY = 500  # cases
BODIES = {dialect: [one.body for one in TRANSCRIPTS if one.dialect == dialect] for dialect in SPOKEN}
VECTORS = [
    b'{"data":[{"index":1,"embedding":[3,4]},{"index":0,"embedding":[1.5,2]}],"usage":{"prompt_tokens":9}}',
    b'{"embeddings":[{"values":[1.5,2]},{"values":[3,4]}],"usageMetadata":{"promptTokenCount":9}}',
    b'{"embeddings":[[1.5,2],[3,4]],"prompt_eval_count":9}',
    b'{"embeddings":{"float":[[1.5,2],[3,4]]},"meta":{"billed_units":{"input_tokens":9.0}}}',
    b'{"embedding":[1.5,2],"inputTextTokenCount":9}',
    b'{"predictions":[{"embeddings":{"values":[1.5,2],"statistics":{"token_count":9.0,"truncated":false}}}]}',
    b'{"embedding":{"values":[1.5,2]},"usageMetadata":{"promptTokenCount":9},"truncated":false}',
]
SEEDS = [
    b"", b"\n", b"\r\n\r\n", b"data:", b"data: \n\n", b"data: [DONE]\n\n", b"event: error\n", b": ping\n\n", b"\x00",
    b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud800", b"null", b"[]", b"{}", b'""', b"true", b"-1", b"1e999",
    b"NaN", b"9" * 400, b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b'"' + b"\\u0000" * 50 + b'"', b"<think>",
    b'"error":', b'"usage":', b'"tool_calls":[{"index":99999999999,"function":{"name":"x","arguments":"{"}}]',
    b'"finish_reason":"stop"', b'"done":true', b"\xf0\x9f", b"\r", b"data: x\rdata: y\n\n", b"</think>",
]  # fmt: skip
_CALL = b'data: {"choices":[{"delta":{"tool_calls":[{%s"function":{"name":"f","arguments":"%s"}}]}}]}\n\n'
_TOOL_USE = b'"content_block":{"type":"tool_use","id":"t","name":"n","input":{}}}\n\n'
_COHERE_CALL = b'"delta":{"message":{"tool_calls":{"function":{"arguments":"aaaaaaaa"}}}}}\n\n'
_BEGUN = b'{"id": "p1", "status": "starting", "urls": {"stream": "https://vendor.example/v1/s"}}'
_LONG = b"n" * 65536


def _begin_call(number: int) -> bytes:
    """A frame has sums over its bytes: it cannot be counted up in place."""
    use = {"toolUseId": f"{number}", "name": "n" * 65536}
    return framed(("contentBlockStart", {"contentBlockIndex": number, "start": {"toolUse": use}}))


def _count_on(number: int) -> bytes:
    """A usage of names that no usage before it has had."""
    usage = {f"k{number}_{n}": n for n in range(500)}
    return b"data: " + json.dumps({"type": "message_delta", "usage": usage, "choices": []}).encode() + b"\n\n"


ENDLESS_PIECES: list[bytes | Callable[[int], bytes]] = [  # %d counts up
    _begin_call,
    _count_on,
    b"x" * 65536,
    b"data: " + b"x" * 65536 + b"\n",
    b"\n" * 65536,
    b": ping\n\n" * 4096,
    b"event: x\n" * 4096,
    b"<think" * 9000,
    b"stray line\n" * 6000,
    b"\x00\x01\x00\x00" + b"\x00" * 65532,
    _CALL % (b"", b"aa") * 500,
    _CALL % (b'"index":%d,', b"a" * 900),
    b'{"message":{"content":"<think>hm"},"done":false}\n' * 900,
    b'data: {"type":"content_block_start","index":%d,' + _TOOL_USE,
    b'data: {"type":"tool-call-delta","index":%d,' + _COHERE_CALL,
    b'data: {"type":"content_block_delta","index":%d,"delta":{"thinking":"' + b"a" * 900 + b'"}}\n\n',
    b'data: {"type":"content_block_start","index":%d,"content_block":{"type":"redacted_thinking","data":"a"}}\n\n'
    * 900,
    b'data: {"choices":[{"delta":{"reasoning_content":"' + b"a" * 900 + b'"}}]}\n\n',
    b'data: {"choices":[{"delta":{"thinking_blocks":[{"thinking":"a","signature":"a"}]}}]}\n\n' * 900,
    b"event: output\ndata: ab\n\n" * 4000,
    b"event: output\ndata: " + b"<think" * 9000 + b"\n\n",
    b"event: logs\ndata: " + _LONG + b"\n\n",
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":%d,"id":"' + _LONG + b'","function":{"name":"f"}}]}}]}\n\n',
    b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"%d","function":{"name":"' + _LONG + b'"}}]}}]}\n\n',
    b'data: {"type":"content_block_start","index":%d,"content_block":{"type":"tool_use","name":"n","id":"'
    + _LONG
    + b'"}}\n\n',
    b'data: {"type":"tool-call-start","index":%d,"delta":{"message":{"tool_calls":{"id":"' + _LONG + b'"}}}}\n\n',
]


ENDLESS_PAIRS = [(dialect, piece) for piece in ENDLESS_PIECES for dialect in SPOKEN]


def spoilt(dice: random.Random, bodies: Sequence[bytes]) -> bytes:
    """An answer with up to eight accidents."""
    body = dice.choice(bodies)
    for _ in range(dice.randint(0, 8)):
        body = dice.choice(ACCIDENTS)(dice, body, bodies)[: 2**18]
    return body


def _cut(dice: random.Random, body: bytes, _: Sequence[bytes]) -> bytes:
    return body[: dice.randint(0, len(body))]


def _drop(dice: random.Random, body: bytes, _: Sequence[bytes]) -> bytes:
    at = dice.randint(0, len(body))
    return body[:at] + body[at + dice.randint(1, 40) :]


def _flip(dice: random.Random, body: bytes, _: Sequence[bytes]) -> bytes:
    changed = bytearray(body)
    for _ in range(dice.randint(1, 6) if body else 0):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def _sow(dice: random.Random, body: bytes, _: Sequence[bytes]) -> bytes:
    at = dice.randint(0, len(body))
    return body[:at] + dice.choice(SEEDS) + body[at:]


def _cross(dice: random.Random, body: bytes, bodies: Sequence[bytes]) -> bytes:
    """Two answers, interleaved in pieces."""
    one, other = list(pieces(dice, body)), list(pieces(dice, dice.choice(bodies)))
    mixed: list[bytes] = []
    while one or other:
        mixed.append((one if one and (not other or dice.random() < 0.5) else other).pop(0))
    return b"".join(mixed)


def _repeat(dice: random.Random, body: bytes, _: Sequence[bytes]) -> bytes:
    start = dice.randint(0, len(body))
    return body[:start] + body[start : start + dice.randint(1, 400)] * dice.randint(2, 9) + body[start:]


def _retype(dice: random.Random, body: bytes, _: Sequence[bytes]) -> bytes:
    """A value of another type, behind a colon."""
    colons = [at for at, byte in enumerate(body) if byte == 58]
    at = dice.choice(colons) + 1 if colons else 0
    end = next((end for end in range(at, len(body)) if body[end] in b",}]\n"), len(body))
    return body[:at] + dice.choice((b"null", b"7", b"-1.5", b'"x"', b"[]", b"[[7]]", b'{"a":1}', b"true")) + body[end:]


def _noise(dice: random.Random, body: bytes, _: Sequence[bytes]) -> bytes:
    return body + dice.randbytes(dice.randint(1, 300))


def _reframe(dice: random.Random, body: bytes, _: Sequence[bytes]) -> bytes:
    """Any JSON in a frame whose sums are right: what stands behind the checks is read, too."""
    names = (
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "messageStart",
        "x",
    )
    return body + framed((dice.choice(names), anything(dice)))


FRAMES = ("contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata", "messageStart", "x")
ACCIDENTS: tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...] = (
    _cut, _drop, _flip, _sow, _cross, _repeat, _retype, _retype, _noise, _reframe,
)  # fmt: skip
WORDS = [
    "choices", "delta", "content", "finish_reason", "usage", "error", "code", "message", "type", "candidates", "parts",
    "tool_calls", "function", "arguments", "name", "index", "functionCall", "args", "toolUse", "output", "status", "id",
    "urls", "stream", "metrics", "response", "result", "success", "errors", "stopReason", "text", "data", "embedding",
    "embeddings", "float", "values", "models", "matches", "score", "contentBlockIndex", "input", "start", "details",
    "predictions", "statistics", "truncated", "usageMetadata",
]  # fmt: skip


def anything(dice: random.Random, depth: int = 4) -> Any:
    leaves = (None, True, 0, -1, 2**70, 0.5, "", "x", "stop", "\ud800", "\0", "429", "error", "[DONE]", [], {})
    roll = dice.random()
    if depth == 0 or roll < 0.3:
        return dice.choice(leaves)
    if roll < 0.5:
        return [anything(dice, depth - 1) for _ in range(dice.randint(0, 3))]
    return {dice.choice(WORDS): anything(dice, depth - 1) for _ in range(dice.randint(0, 5))}


def pieces(dice: random.Random, body: bytes) -> Iterator[bytes]:
    most = dice.choice((1, 3, 17, 200, 5000, 2**18))
    at = 0
    while at < len(body):
        size = dice.randint(1, most)
        yield body[at : at + size]
        at += size


def decode(dialect: str, parts: Sequence[bytes]) -> Outcome:
    """What was read, and how it ended. A further exchange is answered with the same bytes."""
    decoder = SPOKEN[dialect].decoder(provider("https://vendor.example/v1", dialect=dialect))
    events: list[Event] = []
    try:
        for _ in range(3):
            for part in parts:
                decoder.feed(part, events)
                if decoder.done:
                    break
            decoder.end(events)
            if decoder.follow() is None:
                break
    except ProviderFault as fault:
        return events, fault.slug
    finally:
        decoder.abandon()
    if not any(isinstance(event, Finish) for event in events) and dialect != "replicate":
        raise AssertionError("an answer ended without an error and without an end")
    return events, "whole"


def storable(events: Sequence[Event]) -> None:
    for event in events:
        match event:
            case Text(words) | Thought(words):
                said = [words]
            case Reasoned(words, signature, _):
                said = [words, signature]
            case ToolCall(call_id, name, arguments, signature):
                said = [call_id, name, arguments, signature]
            case Report(usage, _):
                said = []
                counts = (usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning)
                if not all(type(count) is int and 0 <= count <= 2**56 for count in counts):
                    raise AssertionError(f"no counts of tokens: {usage}")
            case Finish(_, detail):
                said = [detail or ""]
        for words in said:
            words.encode()  # lone surrogates cannot be
            if "\0" in words:
                raise AssertionError("a text that no database can hold")


def merged(outcome: Outcome) -> tuple[str, str, tuple[Event, ...], str]:
    """Without the places where texts were cut."""
    events, end = outcome
    texts = "".join(event.text for event in events if isinstance(event, Text))
    thoughts = "".join(event.text for event in events if isinstance(event, Thought))
    return texts, thoughts, tuple(event for event in events if not isinstance(event, Text | Thought)), end


def play(number: int) -> str:
    """One case; its name and end. Raises whatever is wrong."""
    dice = random.Random(number)
    dialect = dice.choice(list(SPOKEN))
    if dice.random() < 0.2:
        return f"{dialect} {_read_whole(dice, dialect)}"
    mixed = BODIES[dialect] if dice.random() < 0.8 else [body for bodies in BODIES.values() for body in bodies]
    body = spoilt(dice, mixed)
    outcome = decode(dialect, list(pieces(dice, body)))
    storable(outcome[0])
    again = decode(dialect, [body[at : at + 1] for at in range(len(body))] if len(body) < 4000 else [body])
    if merged(outcome) != merged(again):
        raise AssertionError(
            f"the same bytes, cut otherwise: {merged(again)[3]}, {merged(outcome)[3]}: {merged(outcome)}"
        )
    return f"{dialect} {outcome[1]}"


def _read_whole(dice: random.Random, dialect: str) -> str:
    """The readers of answers that are no streams: complaints, vectors, lists, matches, headers."""
    vendor = provider("https://vendor.example/v1", dialect=dialect)
    value = spoilt(dice, [json.dumps(anything(dice, 6)).encode(), *BODIES[dialect], *VECTORS])
    headers = {
        name: dice.choice(("", "7", "-1", "1e400", "nan", "6m0s", "Mon, 99 Foo", "9" * 50, "x" * 9)) for name in HEADERS
    }
    read = dice.choice(("fault", "models", "vectors", "matches", "headers"))
    try:
        match read:
            case "fault":
                fault = SPOKEN[dialect].fault(
                    vendor, dice.choice((200, 301, 400, 401, 404, 418, 429, 500, 529)), headers, value
                )
                fault.message.encode()
            case "models":
                SPOKEN[dialect].parse_models(value)
            case "vectors":
                EMBEDDING[dice.choice(list(EMBEDDING))].parse(value, dice.randint(0, 3))
            case "matches":
                vectorize.parse_matches(value)
            case _:
                limit.read(headers, datetime(2026, 1, 1, tzinfo=UTC))
    except ProviderFault as fault:
        return f"{read} {fault.slug}"
    return f"{read} read"


HEADERS = (
    "retry-after",
    "retry-after-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-reset-tokens",
    "ratelimit-remaining",
    "date",
)


def endless(turn: int) -> tuple[str, int]:
    """Bytes without end into one decoder, all pairs of them in turn: who, and what it held."""
    dialect, piece = ENDLESS_PAIRS[turn % len(ENDLESS_PAIRS)]
    decoder = SPOKEN[dialect].decoder(provider("https://vendor.example/v1", dialect=dialect))
    if dialect == "replicate":  # the stream is the second of its parts; the first is one body, bounded as a whole
        decoder.feed(_BEGUN, [])
        decoder.end([])
        decoder.follow()
    tracemalloc.start()
    sent = number = 0
    try:
        while sent < ENDLESS and not decoder.done:
            part = _counted_up(piece, number)
            decoder.feed(part, [])
            sent += len(part)
            number += 1
            if tracemalloc.get_traced_memory()[0] > HELD:
                break
    except ProviderFault:
        pass
    finally:
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    if held > HELD:
        raise AssertionError(f"{dialect} holds {held} bytes of {sent} that came as {part[:80]!r}")
    return dialect, held


def _counted_up(piece: bytes | Callable[[int], bytes], number: int) -> bytes:
    if not isinstance(piece, bytes):
        return piece(number)
    part = piece.replace(b"%d", str(number).encode())
    return part * max(1, 16384 // len(part))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=1.0)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options.add_argument("--case", type=int, help="play one case again")
    asked = options.parse_args()
    if asked.case is not None:
        sys.stdout.write(f"{play(asked.case)}\n")
        return 0
    return _run(asked.seed, time.monotonic() + 60 * asked.minutes)


def _run(seed: int, until: float) -> int:
    seen: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    number, most = seed << 32, 0
    while time.monotonic() < until:
        number += 1
        try:
            seen[play(number)] += 1
            if number % ENDLESS_EVERY == 0:
                most = max(most, endless(number // ENDLESS_EVERY)[1])
        except Exception as error:  # noqa: BLE001 - finding these is the purpose
            kind = f"{type(error).__name__}: {str(error)[:160]}"
            wrong[type(error).__name__] += 1
            if sum(wrong.values()) <= 40:
                sys.stdout.write(f"case {number}: {kind}\n")
                sys.stdout.flush()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    cases, ends = sum(seen.values()), Counter(name.split(" ", 1)[1] for name in seen.elements())
    sys.stdout.write(f"seed {seed}: {cases} cases, {sum(wrong.values())} wrong, ends {dict(ends.most_common(12))}\n")
    sys.stdout.write(f"most held by one decoder {most // 1024} KiB, most held by the process {peak} MiB\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
