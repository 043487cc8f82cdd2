"""The registry: catalog, settings and environment made one, and every refusal with its cure."""

from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from goblin.errors import ConfigError, NotFound
from goblin.settings import ModelSettings, ProviderSettings, Settings
from goblin.settings import load as load_settings
from providers.price import FREE
from providers.provider import Deadlines
from providers.registry import Registry, load
from providers.row import parse
from providers.tokens import UNKNOWN

ORIGIN = """
[providers.openai]
enabled = true
api_key = "${OPENAI_API_KEY}"
models = ["gpt-4", "gpt-3.5-turbo"]
priority = 1
cost_per_token = 0.002
max_tokens = 4096

[providers.ollama]
enabled = true
base_url = "http://localhost:11434"
models = ["deepseek-coder:1.3b", "llama2:7b"]
priority = 2
cost_per_token = 0.0
max_tokens = 2048
"""


def registry(environ: dict[str, str] | None = None, **providers: ProviderSettings) -> Registry:
    return load(Settings(providers=providers), environ or {})


def test_the_tables_of_the_first_document_load_as_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "goblin.toml"
    file.write_text(ORIGIN)
    environ = {"OPENAI_API_KEY": "sk-1"}
    found = load(load_settings(file, environ), environ)
    openai, ollama = found.get("openai"), found.get("ollama")
    assert [model.id for model in openai.models] == ["gpt-4", "gpt-3.5-turbo"]
    assert openai.ready
    assert openai.priority == 1
    assert openai.models[0].context == 4096
    assert openai.models[0].classes == {"fast", "reasoning"}
    assert openai.models[0].price is not None
    assert openai.models[0].price.input == openai.models[0].price.output == 2000 * 10**9
    assert [model.id for model in ollama.models] == ["deepseek-coder:1.3b", "llama2:7b"]
    assert ollama.local
    assert ollama.ready
    assert not ollama.discovers
    assert ollama.models[0].price is not None
    assert ollama.models[0].price.output == 0


def test_every_provider_is_there_and_says_what_it_lacks() -> None:
    found = registry()
    assert {"openai", "anthropic", "gemini", "deepseek", "groq", "mistral", "openrouter", "ollama"} <= set(
        found.providers
    )
    assert found.get("openai").why_not() == "no key: set OPENAI_API_KEY"
    assert found.get("ollama").why_not() == "no model found at http://localhost:11434"
    assert registry(openai=ProviderSettings(enabled=False)).get("openai").why_not() == "disabled"


@pytest.mark.parametrize("name", ["GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_AI_API_KEY"])
def test_gemini_takes_its_key_from_any_of_its_names(name: str) -> None:
    gemini = registry({name: " AIza-1 \n"}).get("gemini")
    assert gemini.ready
    assert gemini.key == SecretStr("AIza-1")


def test_a_key_in_the_settings_wins_over_the_environment() -> None:
    said = ProviderSettings(api_key=SecretStr("from-settings"))
    assert registry({"OPENAI_API_KEY": "from-env"}, openai=said).get("openai").key == SecretStr("from-settings")


def test_a_key_is_never_printed() -> None:
    assert "sk-hidden" not in repr(registry({"OPENAI_API_KEY": "sk-hidden"}))


def test_a_key_that_no_header_may_carry_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        registry({"OPENAI_API_KEY": "sk-1\nX-Evil: 1"})
    assert "Evil" not in caught.value.message


@pytest.mark.parametrize(
    ("variable", "name", "given", "url"),
    [
        ("OLLAMA_BASE_URL", "ollama", "http://gpu:11434", "http://gpu:11434"),
        ("OLLAMA_BASE_URL", "ollama", "http://gpu:11434/", "http://gpu:11434"),
        ("LM_STUDIO_BASE_URL", "lmstudio", "http://localhost:1234", "http://localhost:1234/v1"),
        ("LLAMACPP_BASE_URL", "llamacpp", "http://localhost:8080", "http://localhost:8080/v1"),
        ("LLAMACPP_BASE_URL", "llamacpp", "http://localhost:8080/other/v1", "http://localhost:8080/other/v1"),
    ],
)
def test_local_servers_are_moved_by_the_environment(variable: str, name: str, given: str, url: str) -> None:
    assert registry({variable: given}).get(name).base_url == url


def test_an_address_in_the_settings_wins_over_the_environment() -> None:
    said = ProviderSettings(base_url="http://here:1")
    assert registry({"OLLAMA_BASE_URL": "http://there:1"}, ollama=said).get("ollama").base_url == "http://here:1"


@pytest.mark.parametrize("url", ["ftp://x", "localhost:11434", "http://", "http://user:pass@host/v1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url"):
        registry(ollama=ProviderSettings(base_url=url))


@pytest.mark.parametrize(
    "url", ["http://here:1/v1?key=s3cret", "http://me:s3cret@here:1/v1", "http://here:1/v1#s3cret"]
)
def test_an_address_that_holds_a_key_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"providers\.ollama\.base_url") as said:
        registry(ollama=ProviderSettings(base_url=url))
    with pytest.raises(ConfigError, match=r"OLLAMA_BASE_URL") as told:
        registry({"OLLAMA_BASE_URL": url})
    with pytest.raises(ConfigError, match=r"mine\.toml: base_url") as listed:
        parse(f'name = "Mine"\nbase_url = "{url}"\n', "mine.toml")
    assert not any("s3cret" in caught.value.message for caught in (said, told, listed))


def test_an_unknown_provider_names_the_nearest() -> None:
    with pytest.raises(NotFound, match="did you mean openai"):
        registry().get("opneai")


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(NotFound, match=r"did you mean gpt-5\.4-mini"):
        registry().get("openai").model("gpt-5.4-mnii")


def test_a_provider_of_ones_own_needs_an_address() -> None:
    with pytest.raises(ConfigError, match="did you mean mistral"):
        registry(mistrl=ProviderSettings(models=("m",)))
    mine = registry(mine=ProviderSettings(base_url="http://mine:1/v1", models=("m",))).get("mine")
    assert (mine.dialect, mine.ready, mine.needs_key) == ("openai", True, False)
    assert mine.models[0].price is None


@pytest.mark.parametrize(
    ("dialect", "auth"), [("openai", "bearer"), ("anthropic", "x-api-key"), ("gemini", "x-goog-api-key")]
)
def test_a_provider_of_ones_own_sends_its_key_as_its_dialect_does(dialect: str, auth: str) -> None:
    said = ProviderSettings(base_url="http://mine:1", dialect=dialect, api_key=SecretStr("k"), models=("m",))
    assert registry(mine=said).get("mine").auth == auth


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean openai"):
        registry(mine=ProviderSettings(base_url="http://mine:1", dialect="opanai"))


def test_limits_and_deadlines_may_be_set() -> None:
    said = ProviderSettings(rpm=3, tpm=5, concurrency=7, retry_count=0, timeout=20, stall_timeout=4)
    openai = registry(openai=said).get("openai")
    assert (openai.rpm, openai.tpm, openai.concurrency, openai.retry_count) == (3, 5, 7, 0)
    assert openai.deadlines == Deadlines(connect=5, first_token=20, stall=4, total=20)


def test_a_model_may_be_described_in_the_settings() -> None:
    said = ModelSettings(id="m", context=10, max_output=5, classes=("fast",))
    (model,) = registry(openai=ProviderSettings(models=(said,))).get("openai").models
    assert (model.context, model.max_output, model.classes) == (10, 5, {"fast"})


def test_a_listed_model_keeps_what_the_catalog_knows() -> None:
    (model,) = registry(openai=ProviderSettings(models=("gpt-5.4-mini",))).get("openai").models
    assert (model.context, model.reasoning, model.classes) == (400_000, True, {"fast", "reasoning"})


def test_nobody_goes_on_with_half_an_answer_unless_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "Mine"\nbase_url = "http://x.test"\nprefill = true\n'
        '[[models]]\nid = "old"\n[[models]]\nid = "new"\nprefill = false\n'
    )
    mine = load(Settings(catalog=tmp_path), {}).get("mine")
    assert [mine.continues(model) for model in mine.models] == [True, False]
    shipped = load(Settings(), {}).candidates()
    assert not any(provider.continues(model) for provider, model in shipped)
    told = registry(openai=ProviderSettings(prefill=True)).get("openai")
    assert all(told.continues(model) for model in told.models)


def test_a_model_counts_as_its_source_says_and_prudently_where_none_does(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "Mine"\nbase_url = "http://x.test"\ncounts = { share = 1.5, source = "a test" }\n'
        '[[models]]\nid = "as-all"\n[[models]]\nid = "own"\ncounts = { share = 1.1, source = "a test" }\n'
    )
    mine = load(Settings(catalog=tmp_path), {}).get("mine")
    assert [model.counts for model in mine.models] == [1.5, 1.1]
    assert all(model.counts == UNKNOWN > 1 for model in registry().get("mistral").models)
    assert all(model.counts > UNKNOWN for model in registry().get("anthropic").models)


def test_an_index_has_the_catalogs_price_unless_another_is_said() -> None:
    assert registry().get("cloudflare_vectorize").search_rate == 10_000_000
    said = ProviderSettings(query_usd_mdim=Decimal("0.04"))
    assert registry(cloudflare_vectorize=said).get("cloudflare_vectorize").search_rate == 40_000_000
    assert registry().get("openai").search_rate is None


def test_a_model_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        registry(openai=ProviderSettings(models=("m", "m")))


def test_candidates_come_by_priority_then_name() -> None:
    said = {"groq": ProviderSettings(priority=1), "anthropic": ProviderSettings(priority=2)}
    order = list(dict.fromkeys(vendor.id for vendor, _ in registry(**said).candidates()))
    assert order[:2] == ["groq", "anthropic"]
    assert order[2:] == sorted(order[2:])


def test_an_address_of_ones_own_needs_no_name_to_fill_in() -> None:
    own = ProviderSettings(base_url="https://proxy.example/openai", api_key=SecretStr("k"))
    assert registry().get("azure_openai").why_not() == (
        "needs resource: set AZURE_OPENAI_RESOURCE or providers.azure_openai.variables.resource"
    )
    assert registry(azure_openai=own).get("azure_openai").why_not() is None


def test_a_model_that_is_named_for_vectors_has_the_price_that_somebody_says() -> None:
    own = ModelSettings(id="mine", input_usd_mtok="0.5")
    said = ProviderSettings(embedding_models=("text-embedding-3-large", own, "nobody-knows"))
    known, mine, unknown = registry(openai=said).get("openai").embedders
    assert known.price is not None
    assert (known.price.input, known.price.output) == (130_000_000, 0)
    assert known.price.source.startswith("genai-prices ")
    assert mine.price is not None
    assert (mine.price.input, mine.price.output, mine.price.source) == (500_000_000, 0, "configuration")
    assert unknown.price is None


def test_a_model_that_is_named_for_vectors_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"openai\.embedding_models names 'm' twice"):
        registry(openai=ProviderSettings(embedding_models=("m", "m")))


@pytest.mark.parametrize("name", ["replicate", "anthropic", "huggingface", "cloudflare_vectorize"])
def test_who_makes_no_vectors_that_are_spoken_here_is_asked_for_none(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"providers\.{name}\.embedding_models: .* makes no vectors that are spoken"):
        registry(**{name: ProviderSettings(embedding_models=("m",))})
    assert not registry().get(name).embedders
    assert registry(**{name: ProviderSettings(embedding_models=())}).get(name).embedders == ()


def test_a_local_server_is_still_looked_at_when_its_row_knows_who_makes_vectors() -> None:
    ollama = registry().get("ollama")
    assert ollama.discovers
    assert not ollama.models
    assert [(model.id, model.price) for model in ollama.embedders] == [("embeddinggemma", FREE)]


@pytest.mark.parametrize(
    ("location", "host"),
    [("europe-west1", "europe-west1-aiplatform.googleapis.com"), ("global", "aiplatform.googleapis.com")],
)
def test_a_location_may_have_an_address_of_its_own(location: str, host: str) -> None:
    environ = {"GOOGLE_CLOUD_PROJECT": "p", "GOOGLE_OAUTH_ACCESS_TOKEN": "t"}
    told = ProviderSettings(variables={"location": location})
    for found in (registry({**environ, "GOOGLE_CLOUD_LOCATION": location}), registry(environ, vertex=told)):
        vertex = found.get("vertex")
        assert vertex.ready
        assert vertex.base_url == f"https://{host}"
        assert f"/v1/projects/p/locations/{location}/" in (vertex.chat_path or "")
    assert registry(environ).get("vertex").why_not() == (
        "needs location: set GOOGLE_CLOUD_LOCATION or providers.vertex.variables.location"
    )


def test_a_vendor_that_counts_tokens_on_arrival_says_so_in_its_row_unless_the_settings_know_better() -> None:
    assert [name for name, one in registry().providers.items() if one.tokens_counted == "arrival"] == [
        "azure_openai",
        "cerebras",
    ]
    said = {"cerebras": ProviderSettings(tokens_counted="use"), "openai": ProviderSettings(tokens_counted="arrival")}
    found = registry(**said)
    assert [found.get(name).tokens_counted for name in ("cerebras", "openai")] == ["use", "arrival"]


def test_models_that_make_embeddings_are_no_candidates() -> None:
    assert not [model.id for _, model in registry().candidates() if "embed" in model.id]
