"""Requests: every row gives the right address, headers and body, and the key is in the headers alone."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from goblin.settings import Settings
from providers.message import Chat, Message
from providers.provider import Model, Provider
from providers.registry import load
from providers.row import rows
from providers.sampling import Sampling
from providers.wire.dialect import HttpRequest
from providers.wire.spoken import SPOKEN
from tests.fakes.vendor import KEY, chat, provider

FILLED = {variables[0]: "filled" for row in rows().values() for variables in row.needs.values()}
REGISTRY = load(Settings(), FILLED)
TALKING = [(vendor, model) for vendor, model in REGISTRY.candidates() if vendor.dialect in SPOKEN]


def ask(vendor: Provider, call: Chat) -> HttpRequest:
    return SPOKEN[vendor.dialect].request(vendor, call)


def body(vendor: Provider, call: Chat) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(ask(vendor, call).body)
    return value


def row(name: str) -> Provider:
    return replace(REGISTRY.get(name), key=SecretStr(KEY))


@pytest.mark.parametrize(("vendor", "model"), TALKING, ids=lambda one: one.id)
@pytest.mark.parametrize("reasoning", [True, False])
def test_the_key_is_in_the_headers_and_nowhere_else(vendor: Provider, model: Model, reasoning: bool) -> None:
    signs = vendor.auth == "sigv4"  # with a key that is sent nowhere at all
    key = SecretStr(f"id:{KEY}" if signs else KEY)
    request = ask(replace(vendor, key=key), chat(model=model.id, reasoning=reasoning))
    assert (KEY in "".join(request.headers.values())) is not signs
    assert KEY not in request.url + request.body.decode()
    assert "{" not in request.url
    assert request.method == "POST"


@pytest.mark.parametrize(
    ("name", "url", "header"),
    [
        ("openai", "https://api.openai.com/v1/chat/completions", "authorization"),
        ("anthropic", "https://api.anthropic.com/v1/messages", "x-api-key"),
        (
            "gemini",
            "https://generativelanguage.googleapis.com/v1beta/models/m%2F1:streamGenerateContent?alt=sse",
            "x-goog-api-key",
        ),
        ("groq", "https://api.groq.com/openai/v1/chat/completions", "authorization"),
        ("cohere", "https://api.cohere.com/v2/chat", "authorization"),
        ("replicate", "https://api.replicate.com/v1/models/m/1/predictions", "authorization"),
        ("azure_openai", "https://filled.openai.azure.com/openai/v1/chat/completions", "api-key"),
        (
            "vertex",
            "https://filled-aiplatform.googleapis.com/v1/projects/filled/locations/filled/publishers/google/models/m%2F1"
            ":streamGenerateContent?alt=sse",
            "authorization",
        ),
        (
            "cloudflare_workers_ai",
            "https://api.cloudflare.com/client/v4/accounts/filled/ai/v1/chat/completions",
            "authorization",
        ),
        ("zhipu", "https://open.bigmodel.cn/api/paas/v4/chat/completions", "authorization"),
        ("ollama", "http://localhost:11434/api/chat", "authorization"),
        ("llamacpp", "http://127.0.0.1:8080/v1/chat/completions", "authorization"),
    ],
)
def test_a_row_leads_to_its_address(name: str, url: str, header: str) -> None:
    request = ask(row(name), chat(model="m/1"))
    assert request.url == url
    assert request.headers[header] in (KEY, f"Bearer {KEY}")


def test_a_server_that_needs_no_key_is_sent_none() -> None:
    assert "authorization" not in ask(REGISTRY.get("ollama"), chat()).headers


def test_openai_is_asked_in_chat_completions() -> None:
    assert body(provider(), chat(sampling=Sampling(temperature=0.5))) == {
        "model": "m-1",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": chat().messages[1].content},
        ],
        "max_tokens": 200,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
    }


def test_anthropic_is_asked_with_system_beside_the_messages() -> None:
    request = ask(provider(dialect="anthropic"), chat(sampling=Sampling(temperature=0.5)))
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert json.loads(request.body) == {
        "model": "m-1",
        "system": "be brief",
        "messages": [{"role": "user", "content": chat().messages[1].content}],
        "max_tokens": 200,
        "stream": True,
        "temperature": 0.5,
    }


def test_gemini_is_asked_in_contents_and_parts() -> None:
    said = (Message("system", "be brief"), Message("user", "hi"), Message("assistant", "yes?"), Message("user", "ok"))
    assert body(provider(dialect="gemini"), chat(messages=said)) == {
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "hi"}]},
            {"role": "model", "parts": [{"text": "yes?"}]},
            {"role": "user", "parts": [{"text": "ok"}]},
        ],
        "generationConfig": {"maxOutputTokens": 200},
    }


def test_cohere_is_asked_with_roles_in_the_messages() -> None:
    assert body(provider(dialect="cohere"), chat(sampling=Sampling(temperature=0.5))) == {
        "model": "m-1",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": chat().messages[1].content},
        ],
        "max_tokens": 200,
        "stream": True,
        "temperature": 0.5,
    }


def test_cloudflare_is_asked_with_the_model_in_the_address() -> None:
    request = ask(provider("https://vendor.example/ai", dialect="cloudflare"), chat(model="@cf/meta/llama"))
    assert request.url == "https://vendor.example/ai/run/%40cf%2Fmeta%2Fllama"
    assert "model" not in json.loads(request.body)


def test_a_deployment_of_azure_is_asked_at_an_address_of_its_own() -> None:
    path = "/openai/deployments/{model}/chat/completions?api-version=2024-10-21"
    request = ask(provider("https://r.openai.azure.com", chat_path=path, auth="api-key"), chat(model="mine"))
    assert request.url == "https://r.openai.azure.com/openai/deployments/mine/chat/completions?api-version=2024-10-21"
    assert request.headers["api-key"] == KEY


def test_ollama_is_asked_with_options() -> None:
    asked = body(provider(dialect="ollama"), chat(sampling=Sampling(temperature=0.5)))
    assert asked["options"] == {"num_predict": 200, "temperature": 0.5}
    assert asked["stream"] is True


@pytest.mark.parametrize(
    ("name", "model", "on", "off"),
    [
        ("openai", "gpt-5.4-mini", {"reasoning_effort": "medium"}, {"reasoning_effort": "none"}),
        ("deepseek", "deepseek-flash", {"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}),
        ("qwen", "qwen3.8-max", {"enable_thinking": True}, {"enable_thinking": False}),
        ("openrouter", "openai/gpt-6.1-sol", {"reasoning": {"enabled": True}}, {"reasoning": {"enabled": False}}),
        ("zhipu", "glm-5.3", {"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}}),
        ("groq", "openai/gpt-oss-20b", {"reasoning_effort": "medium"}, {"reasoning_effort": "low"}),
        (
            "groq",
            "qwen/qwen3.8-27b",
            {"reasoning_effort": "default", "reasoning_format": "parsed"},
            {"reasoning_effort": "none"},
        ),
        ("anthropic", "claude-haiku-5-5", {"thinking": {"type": "adaptive"}}, {"thinking": {"type": "disabled"}}),
        (
            "gemini",
            "gemini-3.8-flash",
            {
                "generationConfig": {
                    "maxOutputTokens": 200,
                    "thinkingConfig": {"includeThoughts": True, "thinkingBudget": -1},
                }
            },
            {"generationConfig": {"maxOutputTokens": 200, "thinkingConfig": {"thinkingBudget": 0}}},
        ),
        (
            "vllm",
            "whatever-it-serves",
            {"chat_template_kwargs": {"enable_thinking": True}},
            {"chat_template_kwargs": {"enable_thinking": False}},
        ),
        ("mistral", "mistral-large-latest", {}, {}),
        ("xai", "grok-4.7", {}, {}),
    ],
)
def test_reasoning_is_asked_for_and_against_in_the_way_of_the_row(
    name: str, model: str, on: dict[str, Any], off: dict[str, Any]
) -> None:
    for reasoning, expected in ((True, on), (False, off)):
        asked = body(row(name), chat(model=model, reasoning=reasoning))
        added = {key: value for key, value in asked.items() if key not in ALWAYS or key in expected}
        assert added == expected


ALWAYS = (
    "model", "messages", "system", "contents", "systemInstruction", "stream", "stream_options", "max_tokens",
    "max_completion_tokens", "generationConfig",
)  # fmt: skip


def test_nothing_is_said_about_reasoning_to_a_model_that_is_not_known_to_reason() -> None:
    vendor = replace(row("openai"), models=(Model("gpt-4"),))
    assert "reasoning_effort" not in body(vendor, chat(model="gpt-4", reasoning=True))


@pytest.mark.parametrize(("model", "on", "off"), [("qwen3:8b", None, False), ("gpt-oss:20b", "medium", "low")])
def test_ollama_thinks_as_the_model_can(model: str, on: Any, off: Any) -> None:
    assert body(provider(dialect="ollama"), chat(model=model, reasoning=True)).get("think") == on
    assert body(provider(dialect="ollama"), chat(model=model)).get("think") == off


def test_ollama_is_told_to_think_when_the_model_is_known_to() -> None:
    vendor = provider(dialect="ollama", models=(Model("q", reasoning=True),))
    assert body(vendor, chat(model="q", reasoning=True))["think"] is True


def test_a_long_prompt_gets_a_window_that_holds_it() -> None:
    long = chat(messages=(Message("user", "word " * 8000),))
    window = body(provider(dialect="ollama"), long)["options"]["num_ctx"]
    assert window >= 8000
    assert window & (window - 1) == 0


def test_a_configured_window_is_always_the_same() -> None:
    vendor = provider(dialect="ollama", models=(Model("m-1", context=2048),))
    assert body(vendor, chat())["options"]["num_ctx"] == 2048


def test_a_thinking_budget_that_the_output_limit_cannot_hold_is_not_asked_for() -> None:
    vendor = row("anthropic")
    small, large = (chat(model="claude-haiku-4-5", reasoning=True, max_output_tokens=limit) for limit in (1024, 4096))
    assert "thinking" not in body(vendor, small)
    assert body(vendor, large)["thinking"] == {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize(("name", "model"), [("openai", "gpt-5.4-mini"), ("anthropic", "claude-haiku-5-5")])
def test_no_temperature_is_sent_with_reasoning_where_it_is_refused(name: str, model: str) -> None:
    assert "temperature" not in body(row(name), chat(model=model, reasoning=True, sampling=Sampling(temperature=0.2)))
    assert body(row(name), chat(model=model, sampling=Sampling(temperature=0.2)))["temperature"] == 0.2


def test_openai_itself_takes_its_own_name_for_the_output_limit() -> None:
    asked = body(row("openai"), chat())
    assert asked["max_completion_tokens"] == 200
    assert "max_tokens" not in asked


def test_usage_is_not_asked_for_where_it_comes_unasked() -> None:
    assert "stream_options" not in body(row("mistral"), chat())


def test_an_idempotency_key_goes_only_to_those_who_take_one() -> None:
    call = chat(idempotency_key="run-step-1")
    taking = provider(quirks={"idempotency_header": "Idempotency-Key"})
    assert ask(taking, call).headers["idempotency-key"] == "run-step-1"
    assert "idempotency-key" not in ask(provider(), call).headers


def test_a_row_may_add_headers_and_parts_of_the_body() -> None:
    vendor = provider(quirks={"headers": {"x-title": "goblin"}, "body": {"options": {"rejectIfBusy": True}}})
    assert ask(vendor, chat()).headers["x-title"] == "goblin"
    assert body(vendor, chat())["options"] == {"rejectIfBusy": True}


@pytest.mark.parametrize(
    ("dialect", "listed", "names"),
    [
        ("openai", {"data": [{"id": "a"}, {"id": "text-embedding-3"}, {"id": "b"}]}, ("a", "b")),
        ("openai", [{"id": "a"}], ("a",)),
        ("openai", {"data": [{"model": "a", "max_tokens": 5}]}, ("a",)),
        ("anthropic", {"data": [{"id": "claude"}], "has_more": False}, ("claude",)),
        (
            "gemini",
            {
                "models": [
                    {"name": "models/g", "supportedGenerationMethods": ["generateContent"]},
                    {"name": "models/e", "supportedGenerationMethods": ["embedContent"]},
                ]
            },
            ("g",),
        ),
        ("cohere", {"models": [{"name": "c", "endpoints": ["chat"]}, {"name": "e", "endpoints": ["embed"]}]}, ("c",)),
        ("replicate", {"results": [{"owner": "o", "name": "n"}], "next": None}, ("o/n",)),
        (
            "cloudflare",
            {"result": [{"name": "@cf/a", "task": {"name": "Text Generation"}}, {"name": "b", "task": {"name": "x"}}]},
            ("@cf/a",),
        ),
        (
            "ollama",
            {
                "models": [
                    {"name": "q:8b", "details": {"family": "qwen3"}},
                    {"name": "nomic-embed-text"},
                    {"name": "all-minilm", "details": {"family": "bert"}},
                ]
            },
            ("q:8b",),
        ),
    ],
)
def test_models_that_answer_chats_are_read_from_a_list(dialect: str, listed: Any, names: tuple[str, ...]) -> None:
    assert SPOKEN[dialect].parse_models(json.dumps(listed).encode()) == names
