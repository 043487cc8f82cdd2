"""Discovery: which models a server has, asked over HTTP; a server that is not there is no error."""

import json
import socket
from collections.abc import Callable

import pytest

from goblin.settings import ProviderSettings, Settings
from providers.discover import discover, list_models, refresh
from providers.errors import BadCredentials, Malformed, TimedOut
from providers.price import FREE
from providers.provider import Model
from providers.registry import Registry, load
from tests.fakes.vendor import Connection, Vendor, provider

TAGS = {"models": [{"name": "qwen3:8b"}, {"name": "llama2:7b"}, {"name": "nomic-embed-text"}]}
LOCAL = ("ollama", "lmstudio", "llamacpp", "vllm", "litellm_proxy")
LIST = {"object": "list", "data": [{"id": "one"}, {"id": "two"}]}


def listing(value: object, status: str = "200 OK") -> Callable[[Connection], None]:
    body = json.dumps(value).encode()

    def script(connection: Connection) -> None:
        connection.request()
        connection.send(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)

    return script


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def registry(**urls: str) -> Registry:
    """Every local server of the catalog is somewhere else, unless it is named."""
    nowhere = closed_port()
    places = dict.fromkeys(LOCAL, nowhere) | urls
    return load(Settings(providers={name: ProviderSettings(base_url=url) for name, url in places.items()}), {})


@pytest.mark.parametrize(("dialect", "said", "names"), [("ollama", TAGS, 2), ("openai", LIST, 2)])
def test_a_local_server_tells_its_models(dialect: str, said: object, names: int) -> None:
    with Vendor(listing(said)) as vendor:
        models = discover(provider(vendor.url, dialect, unlisted_price=FREE))
    assert models is not None
    assert len(models) == names
    assert {(model.price, model.classes) for model in models} == {(FREE, frozenset(("fast", "reasoning")))}


def test_a_known_model_keeps_what_is_known_about_it() -> None:
    known = Model("one", context=5)
    with Vendor(listing(LIST)) as vendor:
        assert discover(provider(vendor.url, models=(known,))) == (known, Model("two"))


def test_a_server_that_is_not_there_has_no_models() -> None:
    assert discover(provider(closed_port())) is None


def test_something_else_on_its_port_is_not_taken_for_it() -> None:
    with Vendor(listing({"hello": "world"})) as vendor:
        assert discover(provider(vendor.url)) is None


def test_a_provider_without_a_list_has_none() -> None:
    assert list_models(provider(models_path=None)) is None
    assert discover(provider(models_path=None)) is None


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (listing({"error": {"message": "no"}}, "401 Unauthorized"), BadCredentials),
        (listing({"error": {"message": "no", "code": 401}}), BadCredentials),  # with a status of success
        (listing("a text"), Malformed),
        (Connection.wait_until_gone, TimedOut),
    ],
)
def test_a_probe_says_what_is_wrong(script: Callable[[Connection], None], fault: type[Exception]) -> None:
    with Vendor(script) as vendor, pytest.raises(fault):
        list_models(provider(vendor.url), timeout=0.2)


def test_a_refreshed_registry_has_the_models_that_run_now() -> None:
    with Vendor(listing(TAGS)) as ollama, Vendor(listing(LIST)) as lmstudio:
        before = registry(ollama=ollama.url, lmstudio=lmstudio.url)
        after = refresh(before)
    assert not before.get("ollama").ready
    assert [model.id for model in after.get("ollama").models] == ["qwen3:8b", "llama2:7b"]
    assert [model.id for model in after.get("lmstudio").models] == ["one", "two"]
    assert after.get("ollama").ready
    assert not after.get("vllm").ready
    assert not refresh(after).get("ollama").ready  # it has gone since


def test_what_is_found_costs_nothing_unless_the_settings_say_so() -> None:
    said = ProviderSettings(cost_per_token=0.000002)
    with Vendor(listing(TAGS)) as ollama, Vendor(listing(LIST)) as lmstudio:
        places = {
            "ollama": said.model_copy(update={"base_url": ollama.url}),
            "lmstudio": ProviderSettings(base_url=lmstudio.url),
            **dict.fromkeys(("llamacpp", "vllm", "litellm_proxy"), ProviderSettings(enabled=False)),
        }
        found = refresh(load(Settings(providers=places), {}))
    prices = [model.price.output for model in found.get("ollama").models if model.price]
    assert prices == [2 * 10**9, 2 * 10**9]
    assert {model.price for model in found.get("lmstudio").models} == {FREE}


def test_a_proxy_that_runs_here_and_spends_elsewhere_has_models_without_a_price() -> None:
    with Vendor(listing(LIST)) as proxy:
        places = {
            "litellm_proxy": ProviderSettings(base_url=proxy.url),
            **dict.fromkeys(("ollama", "lmstudio", "llamacpp", "vllm"), ProviderSettings(enabled=False)),
        }
        found = refresh(load(Settings(providers=places), {"LITELLM_PROXY_API_KEY": "sk-1"})).get("litellm_proxy")
    assert [(model.id, model.price) for model in found.models] == [("one", None), ("two", None)]


def test_a_server_that_would_refuse_us_is_not_asked() -> None:
    with Vendor(listing(LIST)) as proxy:
        places = {
            "litellm_proxy": ProviderSettings(base_url=proxy.url),
            **dict.fromkeys(("ollama", "lmstudio", "llamacpp", "vllm"), ProviderSettings(enabled=False)),
        }
        refresh(load(Settings(providers=places), {}))
        assert proxy.connections == 0


def test_configured_models_are_not_asked_about() -> None:
    said = ProviderSettings(base_url=closed_port(), models=("mine",))
    nowhere = ProviderSettings(base_url=closed_port(), enabled=False)
    others = dict.fromkeys([name for name in LOCAL if name != "ollama"], nowhere)
    found = refresh(load(Settings(providers={"ollama": said, **others}), {}))
    assert [model.id for model in found.get("ollama").models] == ["mine"]
