"""One set of cases for every dialect, and for vendors who speak one in words of their own: our own client against the
simulator, over real HTTP.
"""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from goblin.errors import GoblinError
from providers.call import Caller, Control
from providers.discover import discover, list_models
from providers.errors import (
    BadCredentials,
    BadRequest,
    BrokenStream,
    ContentFiltered,
    ContextTooLong,
    Malformed,
    Overloaded,
    ProviderFault,
    QuotaSpent,
    ServerError,
    Throttled,
    TimedOut,
    UnknownModel,
    Unreachable,
)
from providers.message import Event, Text, Usage
from providers.price import FREE
from providers.provider import Deadlines, Provider
from providers.sampling import Sampling
from providers.wire.spoken import SPOKEN
from tests.conformance.ways import HOUSES, REASONER, WAYS, Simulator, answer, ask, owned, saying, vendor_at

THINKS = {"reasoning_on": {"additionalModelRequestFields": {"thinking": {"type": "adaptive"}}}}
EVERYONE = (*WAYS, *HOUSES)
TELLS_THE_REASON = pytest.mark.parametrize(
    "vendor", [name for name in EVERYONE if name not in ("replicate", "cloudflare")], indirect=True
)
COUNTS_THE_CACHE = ("openai", "anthropic", "gemini", "cohere", "bedrock", "cloudflare")


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    one = Caller()
    yield one
    one.close()


@pytest.fixture(params=EVERYONE)
def vendor(request: pytest.FixtureRequest, simulator: Simulator) -> Provider:
    return vendor_at(simulator.url, request.param)


def test_what_is_said_comes_whole(caller: Caller, vendor: Provider) -> None:
    text = 'Grüße, 世界 🎉!\nTwo lines, "quotes" and <b>marks</b>.'
    said, thoughts, finish, _ = answer(caller, vendor, ask(f"sim-instant{saying(text)}"))
    assert (said, thoughts) == (text, "")
    assert finish is not None
    assert finish.reason == "stop"


def test_what_a_dialect_has_words_for_is_done(caller: Caller, vendor: Provider) -> None:
    spoken, said = SPOKEN[vendor.dialect], "one two three END four"
    wanted = {"top_p": 0.5, "stop": ["nowhere", "END"], "seed": 7, "frequency_penalty": 0.5, "presence_penalty": 0.5}
    sampling = Sampling.of({name: value for name, value in wanted.items() if name in spoken.words})
    told, *_ = answer(caller, vendor, ask(f"sim-instant{saying(said)}", sampling=sampling))
    assert told == ("one two three " if "stop" in spoken.words else said)
    schema = {"type": "object", "properties": {"words": {"type": "string"}}}
    for kind, name in (("json_object", "answer"), ("json_schema", "words")):
        if kind in spoken.forms:
            form = {"type": kind, "json_schema": {"name": "a", "schema": schema}} if name == "words" else {"type": kind}
            call = ask(f"sim-instant{saying(said)}", sampling=Sampling(response_format=form))
            assert json.loads(answer(caller, vendor, call)[0]) == {name: said}


def test_tokens_are_counted_as_the_vendor_counts_them(caller: Caller, vendor: Provider, simulator: Simulator) -> None:
    cached = 4 if vendor.dialect in COUNTS_THE_CACHE else 0
    *_, usage = answer(caller, vendor, ask(f"sim-instant+tokens=7+cached={cached}"))
    booked = simulator.last_call()
    assert usage == Usage(booked["input_tokens"], booked["cached_tokens"], 0, booked["output_tokens"], 0)
    assert usage.output == 7
    assert usage.cache_read == cached


def test_reasoning_is_kept_apart(caller: Caller, vendor: Provider, simulator: Simulator) -> None:
    thinking = replace(vendor, quirks=THINKS) if vendor.dialect == "bedrock" else vendor
    said, thoughts, _, usage = answer(caller, thinking, ask(REASONER, reasoning=True))
    assert thoughts.startswith("The task is")
    assert thoughts not in said
    assert usage is not None
    assert usage.output == simulator.last_call()["output_tokens"]


def test_reasoning_is_suppressed(caller: Caller, vendor: Provider) -> None:
    off = WAYS[vendor.dialect].off
    quirks = {"reasoning_off": off} if off else {}
    said, thoughts, *_ = answer(caller, replace(vendor, quirks=quirks), ask(REASONER))
    assert said
    assert not thoughts


@pytest.mark.parametrize("vendor", ["openai", "ollama", "cloudflare", "replicate"], indirect=True)
def test_thinking_tags_are_taken_out(caller: Caller, vendor: Provider) -> None:
    said, thoughts, *_ = answer(caller, vendor, ask("sim-instant+thinktag+per=1"))
    assert thoughts.startswith("The task is")
    assert "think>" not in said


@TELLS_THE_REASON
def test_the_output_limit_is_kept_and_told(caller: Caller, vendor: Provider) -> None:
    *_, finish, usage = answer(caller, vendor, ask("sim-instant+tokens=50", max_output_tokens=5))
    assert finish is not None
    assert usage is not None
    assert (finish.reason, usage.output) == ("length", 5)


@pytest.mark.parametrize("vendor", ["openai", "anthropic", "gemini", "cohere", "bedrock", *HOUSES], indirect=True)
def test_a_filtered_answer_says_so(caller: Caller, vendor: Provider) -> None:
    *_, finish, _ = answer(caller, vendor, ask("sim-instant+filtered"))
    assert finish is not None
    assert finish.reason == "filtered"


@pytest.mark.parametrize(
    ("directives", "fault"),
    [
        ("+auth", BadCredentials),
        ("+fail=403", BadCredentials),
        ("+fail=400", BadRequest),
        ("+fail=404", UnknownModel),
        ("+fail=429", Throttled),
        ("+fail=500", ServerError),
        ("+fail=503", Overloaded),
        ("+fail=529", Overloaded),
        ("+overloaded", Overloaded),
        ("+context", ContextTooLong),
        ("+cut=3+tokens=9", BrokenStream),
        ("+malformed=3+tokens=9", Malformed),
        ("+reset", Unreachable),
    ],
)
def test_a_fault_is_told_for_what_it_is(
    caller: Caller, vendor: Provider, directives: str, fault: type[ProviderFault]
) -> None:
    with pytest.raises(GoblinError) as caught:
        answer(caller, vendor, ask(f"sim-instant{directives}"))
    assert type(caught.value) is fault


def test_an_error_inside_a_stream_is_told_by_its_type(caller: Caller, vendor: Provider) -> None:
    overloaded = vendor.dialect in ("anthropic", "gemini")
    with pytest.raises(Overloaded if overloaded else ServerError):
        answer(caller, vendor, ask("sim-instant+midfail=3+tokens=9"))


@pytest.mark.parametrize(
    ("directives", "fault"),
    [
        ("+auth", BadCredentials),
        ("+quota", QuotaSpent),
        ("+fail=429", Throttled),
        ("+overloaded", Overloaded),
        ("+context", ContextTooLong),
        ("+fail=500", ServerError),
    ],
)
@pytest.mark.parametrize("vendor", [name for name in EVERYONE if name not in ("replicate", "bedrock")], indirect=True)
def test_an_error_with_a_status_of_success_is_told_for_what_it_is(
    caller: Caller, vendor: Provider, directives: str, fault: type[ProviderFault]
) -> None:
    with pytest.raises(GoblinError) as caught:
        answer(caller, vendor, ask(f"sim-instant{directives}+ok"))
    assert type(caught.value) is told_without_status(vendor, fault)


def told_without_status(vendor: Provider, fault: type[ProviderFault]) -> type[ProviderFault]:
    """Some say no more than a sentence beside their status, and some have no name for this."""
    if vendor.id in ("ollama", "cohere", "lmstudio"):
        return fault if fault is ContextTooLong else ServerError
    return ServerError if (vendor.dialect, fault) in (("openai", Overloaded), ("cloudflare", Throttled)) else fault


@pytest.mark.parametrize("directive", ["midfail", "malformed", "cut"])
def test_what_came_before_a_fault_is_heard_before_the_fault(caller: Caller, vendor: Provider, directive: str) -> None:
    events = caller.stream(vendor, owned(vendor, ask(f"sim-instant+{directive}=5+tokens=9+per=1")), Control())
    heard: list[Event] = []
    with pytest.raises(ProviderFault):
        heard.extend(events)
    assert len([event for event in heard if isinstance(event, Text)]) == 5


@pytest.mark.parametrize("vendor", [name for name in EVERYONE if name not in ("ollama", "own")], indirect=True)
def test_an_empty_account_is_no_rate_limit(caller: Caller, vendor: Provider) -> None:
    with pytest.raises(QuotaSpent):
        answer(caller, vendor, ask("sim-instant+quota"))


@pytest.mark.parametrize("vendor", ["openai", "cohere", *(name for name in HOUSES if name != "own")], indirect=True)
def test_a_filtered_prompt_is_rejected(caller: Caller, vendor: Provider) -> None:
    with pytest.raises(ContentFiltered):
        answer(caller, vendor, ask("sim-instant+filtered=400"))


def test_a_prompt_that_is_too_long_is_told(caller: Caller, vendor: Provider) -> None:
    long = "word " * 400
    if vendor.dialect == "ollama":  # it shifts the rest out in silence: the window that we ask for is what protects
        assert answer(caller, vendor, ask("sim-tiny", long))[0]
        return
    with pytest.raises(ContextTooLong):
        answer(caller, vendor, ask("sim-tiny", long))


@pytest.mark.parametrize("vendor", [name for name in EVERYONE if name != "minimax"], indirect=True)
def test_how_long_to_wait_is_told(caller: Caller, vendor: Provider) -> None:
    with pytest.raises(Throttled) as caught:
        answer(caller, vendor, ask("sim-instant+fail=429+after=3"))
    assert caught.value.retry_after == 3


def test_a_wrong_key_is_told_and_not_shown(caller: Caller, vendor: Provider) -> None:
    with pytest.raises(BadCredentials) as caught:
        answer(caller, replace(vendor, key=SecretStr("wrong-id:wrong-key-123")), ask("sim-instant"))
    assert "wrong-key-123" not in caught.value.message


def test_an_unknown_model_is_told(caller: Caller, vendor: Provider) -> None:
    with pytest.raises(UnknownModel):
        answer(caller, vendor, ask("no-such-model"))


@pytest.mark.parametrize(("directives", "phase"), [("+silent", "first_token"), ("+stall=2:30+tokens=5", "stall")])
def test_a_silent_vendor_is_left(caller: Caller, vendor: Provider, directives: str, phase: str) -> None:
    hasty = replace(vendor, deadlines=Deadlines(connect=10, first_token=0.4, stall=0.4, total=40))
    with pytest.raises(TimedOut) as caught:
        answer(caller, hasty, ask(f"sim-instant{directives}"))
    assert caught.value.details == {"phase": phase}


@pytest.mark.parametrize("vendor", [name for name in EVERYONE if name != "cloudflare"], indirect=True)
def test_a_finished_answer_needs_no_terminator(caller: Caller, vendor: Provider) -> None:
    said, _, finish, _ = answer(caller, vendor, ask("sim-instant+tokens=3+nodone"))
    assert said
    assert finish is not None


def test_an_answer_without_counts_has_none(caller: Caller, vendor: Provider) -> None:
    *_, finish, usage = answer(caller, vendor, ask("sim-instant+tokens=3+nousage"))
    assert finish is not None
    assert usage is None


def test_tokens_come_as_they_are_made(caller: Caller, vendor: Provider) -> None:
    events = caller.stream(vendor, owned(vendor, ask("sim-instant+tokens=30+per=1")), Control())
    assert len([event for event in events if isinstance(event, Text)]) >= 25


def test_the_models_are_listed(vendor: Provider) -> None:
    names, owner = list_models(vendor), WAYS[vendor.dialect].owner
    if vendor.models_path is None:
        assert names is None
        return
    assert names is not None
    assert {f"{owner}sim-fast", f"{owner}sim-smart"} <= set(names)
    assert f"{owner}sim-embed" not in names


@pytest.mark.parametrize("vendor", ["ollama"], indirect=True)
def test_a_local_server_is_discovered(vendor: Provider) -> None:
    models = discover(replace(vendor, unlisted_price=FREE, models=()))
    assert models is not None
    assert all(model.price == FREE for model in models)
