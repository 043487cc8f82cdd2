"""Requests that want something of how the answer is drawn or of its form: how each dialect says so, and who cannot."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goblin.settings import Settings
from providers.message import Chat
from providers.provider import Model, Provider
from providers.registry import load
from providers.sampling import Sampling
from providers.wire.dialect import JSON
from providers.wire.spoken import SPOKEN, unsayable
from tests.fakes.vendor import chat, provider

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
AS_JSON = {"type": "json_object"}
OF_SCHEMA = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}
DRAWN = Sampling(temperature=0.5, top_p=0.9, stop=("END", "\n\n"), seed=7, frequency_penalty=0.1, presence_penalty=0.2)
PLAIN = {
    "temperature": 0.5, "top_p": 0.9, "stop": ["END", "\n\n"], "seed": 7,
    "frequency_penalty": 0.1, "presence_penalty": 0.2,
}  # fmt: skip
REGISTRY = load(Settings(), {})


def body(vendor: Provider, call: Chat) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(SPOKEN[vendor.dialect].request(vendor, call).body)
    return value


def added(vendor: Provider, sampling: Sampling, **wishes: Any) -> dict[str, Any]:
    """What a request has that one without wishes has not; of what both have as objects, the same."""
    wanted, plain = body(vendor, chat(sampling=sampling, **wishes)), body(vendor, chat(**wishes))
    return _beyond(wanted, plain)


def _beyond(wanted: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    new = {name: value for name, value in wanted.items() if value != plain.get(name)}
    return {
        name: _beyond(value, plain[name]) if isinstance(plain.get(name), dict) else value for name, value in new.items()
    }


@pytest.mark.parametrize(
    ("dialect", "said"),
    [
        ("openai", PLAIN),
        ("anthropic", {"temperature": 0.5, "top_p": 0.9, "stop_sequences": ["END", "\n\n"]}),
        (
            "gemini",
            {
                "generationConfig": {
                    "temperature": 0.5, "topP": 0.9, "stopSequences": ["END", "\n\n"], "seed": 7,
                    "frequencyPenalty": 0.1, "presencePenalty": 0.2,
                }
            },
        ),
        ("ollama", {"options": PLAIN}),
        (
            "cohere",
            {
                "temperature": 0.5, "p": 0.9, "stop_sequences": ["END", "\n\n"], "seed": 7,
                "frequency_penalty": 0.1, "presence_penalty": 0.2,
            },
        ),
        ("bedrock", {"inferenceConfig": {"temperature": 0.5, "topP": 0.9, "stopSequences": ["END", "\n\n"]}}),
        ("cloudflare", {name: value for name, value in PLAIN.items() if name != "stop"}),
        ("replicate", {"input": {"temperature": 0.5}}),
    ],
)  # fmt: skip
def test_every_dialect_says_how_an_answer_is_drawn_in_its_own_words(dialect: str, said: dict[str, Any]) -> None:
    assert added(provider(dialect=dialect), DRAWN) == said


@pytest.mark.parametrize(
    ("dialect", "form", "said"),
    [
        ("openai", AS_JSON, {"response_format": AS_JSON}),
        ("openai", OF_SCHEMA, {"response_format": OF_SCHEMA}),
        ("anthropic", OF_SCHEMA, {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
        ("gemini", AS_JSON, {"generationConfig": {"responseMimeType": "application/json"}}),
        (
            "gemini",
            OF_SCHEMA,
            {"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}},
        ),
        ("ollama", AS_JSON, {"format": "json"}),
        ("ollama", OF_SCHEMA, {"format": SCHEMA}),
        ("cohere", AS_JSON, {"response_format": {"type": "json_object"}}),
        ("cohere", OF_SCHEMA, {"response_format": {"type": "json_object", "json_schema": SCHEMA}}),
        (
            "bedrock",
            OF_SCHEMA,
            {
                "outputConfig": {
                    "textFormat": {
                        "type": "json_schema",
                        "structure": {"jsonSchema": {"name": "place", "schema": json.dumps(SCHEMA)}},
                    }
                }
            },
        ),
    ],
)
def test_every_dialect_says_the_form_of_an_answer_in_its_own_words(
    dialect: str, form: dict[str, Any], said: dict[str, Any]
) -> None:
    assert added(provider(dialect=dialect), Sampling(response_format=form)) == said


@pytest.mark.parametrize("dialect", sorted(SPOKEN))
def test_what_a_dialect_has_a_word_for_is_in_its_requests_and_the_rest_is_said_to_be_missing(dialect: str) -> None:
    vendor, model = provider(dialect=dialect), Model("m-1")
    for sampling in (
        *(Sampling.of({name: value}) for name, value in PLAIN.items()),
        *(Sampling(response_format=form) for form in (AS_JSON, OF_SCHEMA)),
    ):
        (wish,) = sampling.wishes
        why = unsayable(vendor, model, sampling.wishes, reasons=True)
        if why is None:
            assert added(vendor, sampling), wish
        else:
            assert why.endswith(f"{wish}: its dialect has no word for it")
            assert ("response_format" in why) is (wish in JSON)


def test_a_row_has_names_of_its_own_and_refuses_what_its_vendor_does() -> None:
    assert added(REGISTRY.get("mistral"), Sampling(seed=7)) == {"random_seed": 7}
    groq = REGISTRY.get("groq")
    assert unsayable(groq, groq.models[0], ("seed", "stop", "top_p", "json_schema"), reasons=False) is None
    assert unsayable(groq, groq.models[0], ("seed", "presence_penalty"), reasons=False) == "takes no presence_penalty"
    deepseek = REGISTRY.get("deepseek")
    why = unsayable(deepseek, deepseek.models[0], ("json_schema",), reasons=False)
    assert why == "takes no response_format json_schema"


OWN = """
name = "Own"
base_url = "http://127.0.0.1:9/v1"
auth = "none"
sampling = { seed = "random_seed", stop = false }
[[models]]
id = "plain"
[[models]]
id = "own"
sampling = { seed = "dice", json_object = false }
"""


def test_a_model_says_otherwise_than_its_provider(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    vendor = load(Settings(catalog=tmp_path), {}).get("own")
    plain, own = vendor.models
    assert added(vendor, Sampling(seed=7), model="plain") == {"random_seed": 7}
    assert added(vendor, Sampling(seed=7), model="own") == {"dice": 7}
    assert unsayable(vendor, plain, ("json_object",), reasons=False) is None
    assert unsayable(vendor, own, ("json_object",), reasons=False) == "takes no response_format json_object"
    assert unsayable(vendor, own, ("stop",), reasons=False) == "takes no stop"


def test_a_row_may_have_words_that_its_dialect_lacks() -> None:
    vendor = provider(dialect="replicate", quirks={"sampling": {"top_p": "top_p"}})
    assert unsayable(vendor, Model("m-1"), ("top_p",), reasons=False) is None
    assert added(vendor, Sampling(top_p=0.5)) == {"input": {"top_p": 0.5}}


def test_who_takes_no_temperature_while_it_reasons_says_so_and_is_sent_none() -> None:
    openai = REGISTRY.get("openai")
    model = next(one for one in openai.models if one.reasoning)
    for wish in ("temperature", "top_p"):
        assert unsayable(openai, model, (wish,), reasons=True) == f"takes no {wish} while it reasons"
        assert unsayable(openai, model, (wish,), reasons=False) is None
        assert unsayable(openai, replace(model, reasoning=False), (wish,), reasons=True) is None
        assert added(openai, Sampling.of({wish: 0.5}), model=model.id, reasoning=True) == {}
