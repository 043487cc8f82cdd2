"""Every row of the catalog on the wire, against what `rows.toml` says of its vendor, and what holds for all rows."""

import json
import logging
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from goblin.settings import ProviderSettings, Settings
from providers.call import Caller, Control
from providers.discover import list_models
from providers.errors import BadCredentials, ProviderFault
from providers.provider import Provider
from providers.registry import Registry, load
from providers.row import Row, rows
from providers.vectorize import Index, Query
from tests.fakes.vendor import KEY, PROMPT, Connection, Vendor, chat

EXPECTED: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("rows.toml").read_text())
TALKING = [name for name, expected in EXPECTED.items() if "path" in expected]
LISTING = [name for name in TALKING if "models_path" in EXPECTED[name]]
CONVERSATION = ("messages", "system", "contents", "systemInstruction")
SHARED = {  # one account of one vendor behind two rows
    "OLLAMA_API_KEY": {"ollama", "ollama_cloud"},
    "CLOUDFLARE_API_TOKEN": {"cloudflare_workers_ai", "cloudflare_vectorize"},
    "ZHIPU_API_KEY": {"zhipu", "zai"},
}
FIRST_DOCUMENT = {
    "OpenAI": "openai", "Anthropic": "anthropic", "Google Gemini": "gemini", "DeepSeek": "deepseek",
    "SiliconFlow": "siliconflow", "Moonshot": "moonshot", "ZhipuAI": "zhipu", "Baichuan": "baichuan",
    "StepFun": "stepfun", "Minimax": "minimax", "Alibaba Qwen": "qwen", "Tencent Hunyuan": "hunyuan",
    "SenseTime": "sensenova", "NagaAI": "nagaai", "H2O AI": "h2ogpte", "Cloudflare Workers": "cloudflare_workers_ai",
    "Cloudflare Vectors": "cloudflare_vectorize", "HuggingFace": "huggingface", "Together AI": "together",
    "Replicate": "replicate", "Ollama": "ollama", "LM Studio": "lmstudio", "llama.cpp": "llamacpp",
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Refusing:
    """A vendor that reads one request and then quotes the key that it was sent."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def __call__(self, connection: Connection) -> None:
        head, _, body = connection.request().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        self.asked.append(Asked(method, target, headers, body))
        quoted = KEY if KEY.encode() in head else "nothing"
        words = json.dumps({"error": {"message": f"{quoted} is no key of ours"}}).encode()
        connection.send(b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n" % len(words) + words)


@cache
def environment(nth: int = 0) -> dict[str, str]:
    """A key for everybody, in the variable that comes so many names after the first."""
    environ: dict[str, str] = {}
    for expected in EXPECTED.values():
        environ.update(dict.fromkeys(expected.get("keys", [])[nth : nth + 1], KEY), **expected.get("environment", {}))
    return environ


@cache
def registry(nth: int = 0) -> Registry:
    return load(Settings(), environment(nth))


def configured(name: str, **said: Any) -> Provider:
    return load(Settings(providers={name: ProviderSettings(**said)}), environment()).get(name)


def told(body: bytes) -> dict[str, Any]:
    """A request's body without the conversation."""
    value: dict[str, Any] = json.loads(body)
    if "input" in value:
        value["input"].pop("prompt")
    return {name: part for name, part in value.items() if name not in CONVERSATION}


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    both = {name: merged(one[name], other[name]) for name in one.keys() & other.keys() if isinstance(one[name], dict)}
    return {**one, **other, **both}


def test_what_is_expected_is_written_down_for_every_row() -> None:
    assert set(EXPECTED) == set(rows())


def test_every_provider_of_the_first_document_has_a_row() -> None:
    assert set(FIRST_DOCUMENT.values()) <= set(rows())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_row_names_the_address_of_its_vendor(name: str) -> None:
    assert registry().get(name).base_url == EXPECTED[name]["base_url"]


@pytest.mark.parametrize("name", TALKING)
def test_a_call_reaches_its_vendor_as_the_vendor_wants_it(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    expected, refuse, caller = EXPECTED[name], Refusing(), Caller()
    with Vendor(refuse, refuse) as vendor:
        called = configured(name, base_url=vendor.url)
        for reasoning in (True, False):
            with pytest.raises(BadCredentials) as caught:
                list(caller.stream(called, chat(model=expected["model"], reasoning=reasoning), Control()))
    caller.close()
    secret = expected.get("environment", {}).get("AWS_SECRET_ACCESS_KEY", KEY)  # beside it, the key is an open name
    for asked, wish in zip(refuse.asked, ("on", "off"), strict=True):
        assert (asked.method, asked.target) == ("POST", expected["path"])
        for line in expected["headers"]:
            header, _, value = line.replace("KEY", KEY).partition(": ")
            assert asked.headers[header].startswith(value)
        assert PROMPT in asked.body.decode()
        assert told(asked.body) == merged(expected["body"], expected[wish])
        assert secret not in asked.target + asked.body.decode() + caplog.text + str(caught.value)


@pytest.mark.parametrize("name", [name for name in EXPECTED if "vectors" in EXPECTED[name]])
def test_a_text_reaches_those_who_make_vectors(name: str) -> None:
    wanted, refuse, caller = EXPECTED[name]["vectors"], Refusing(), Caller()
    dimensions = 16 if wanted.keys() & {"body", "whole"} else None
    with Vendor(refuse) as vendor:
        named = {"embedding_models": (wanted["model"],)} if wanted.get("named") else {}
        called = configured(name, base_url=vendor.url, **named)
        with pytest.raises(BadCredentials):
            caller.embed(called, wanted["model"], [PROMPT], Control(), "query", dimensions)
    assert called.local or wanted["model"] in [model.id for model in called.embedders]
    caller.close()
    (asked,) = refuse.asked
    assert (asked.method, asked.target) == ("POST", wanted["path"])
    assert PROMPT in asked.body.decode()
    if "body" in wanted:
        assert json.loads(asked.body) == {"model": wanted["model"], "input": [PROMPT], **wanted["body"]}
    if "whole" in wanted:
        assert json.loads(asked.body) == json.loads(json.dumps(wanted["whole"]).replace("PROMPT", PROMPT))
    assert KEY in "".join(asked.headers.values())
    assert KEY not in asked.target + asked.body.decode()


def test_a_question_reaches_an_index_of_vectors() -> None:
    refuse, caller = Refusing(), Caller()
    with Vendor(refuse) as vendor:
        index = Index(caller, configured("cloudflare_vectorize", base_url=vendor.url), "docs")
        with pytest.raises(BadCredentials):
            index.query(Query([0.5, 0.25]), Control())
    caller.close()
    (asked,) = refuse.asked
    assert (asked.method, asked.target) == ("POST", EXPECTED["cloudflare_vectorize"]["query"])
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(asked.body)["vector"] == [0.5, 0.25]


@pytest.mark.parametrize("name", LISTING)
def test_a_list_of_models_is_asked_for_where_it_is(name: str) -> None:
    refuse = Refusing()
    with Vendor(refuse) as vendor, pytest.raises(ProviderFault):
        list_models(configured(name, base_url=vendor.url))
    (asked,) = refuse.asked
    assert (asked.method, asked.target) == ("GET", EXPECTED[name]["models_path"])


@pytest.mark.parametrize("name", TALKING)
def test_a_provider_with_its_key_and_a_model_can_be_asked(name: str) -> None:
    said = {"enabled": True, "models": (EXPECTED[name]["model"],)}
    assert configured(name, **said).why_not() is None


@pytest.mark.parametrize("name", [name for name in EXPECTED if name not in TALKING])
def test_a_provider_that_answers_no_chats_says_so(name: str) -> None:
    assert registry().get(name).why_not() == EXPECTED[name]["silent"]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_key_is_looked_for_under_the_names_of_the_vendor(name: str) -> None:
    expected, row = EXPECTED[name], rows()[name]
    assert [one for one in (row.key_env, *row.key_env_alternatives) if one] == expected.get("keys", [])
    for nth, _ in enumerate(expected.get("keys", [])):
        key = registry(nth).get(name).key
        assert key is not None
        assert key.get_secret_value().startswith(KEY)


def test_no_two_rows_share_the_name_of_a_key_by_accident() -> None:
    owners: dict[str, set[str]] = defaultdict(set)
    for name, row in rows().items():
        for variable in (row.key_env, *row.key_env_alternatives, row.bearer_env):
            if variable:
                owners[variable].add(name)
    assert {variable: names for variable, names in owners.items() if len(names) > 1} == SHARED


def test_no_key_goes_to_two_places_of_one_name() -> None:
    """An address is moved by its own variable only."""
    moved = [row.base_url_env for row in rows().values() if row.base_url_env]
    assert len(moved) == len(set(moved))


@pytest.mark.parametrize(("name", "row"), rows().items(), ids=rows())
def test_a_row_says_where_it_is_from(name: str, row: Row) -> None:
    assert row.sources
    assert row.gathered is not None
    assert len({model.id for model in row.models}) == len(row.models)
    assert name.replace("_", "").isalnum()
    assert name == name.lower()


@pytest.mark.parametrize(("name", "row"), rows().items(), ids=rows())
def test_every_address_of_a_row_is_safe_or_on_this_machine(name: str, row: Row) -> None:
    for url in (row.base_url, *row.base_url_alternatives, *(one["base_url"] for one in row.alt_dialects)):
        parts = urlsplit(url)
        assert parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1"), name


def test_what_runs_here_and_spends_elsewhere_is_not_free() -> None:
    assert [name for name, row in rows().items() if row.local and not row.is_free] == ["litellm_proxy"]


def test_two_servers_on_one_port_are_not_both_looked_for() -> None:
    places = [row.base_url for row in rows().values() if row.is_discovered]
    assert len(places) == len(set(places))
    assert not rows()["llamafile"].is_discovered
