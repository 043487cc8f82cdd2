"""The registry: catalog, settings and environment made one, and every refusal with its cure."""

from datetime import UTC, datetime
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
from providers.wire.spoken import SPOKEN
from tests.fakes.vendor import chat

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
ROW = 'name = "Mine"\nbase_url = "https://mine.example/v1"\nkey_env = "MINE_KEY"\n'


def registry(environ: dict[str, str] | None = None, **providers: ProviderSettings) -> Registry:
    return load(Settings(providers=providers), environ or {})


def with_catalog(folder: Path, content: str, environ: dict[str, str] | None = None) -> Registry:
    (folder / "mine.toml").write_text(content)
    return load(Settings(catalog=folder), environ or {})


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
def test_an_address_that_holds_a_key_is_refused_without_showing_it(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"providers\.ollama\.base_url") as said:
        registry(ollama=ProviderSettings(base_url=url))
    with pytest.raises(ConfigError, match=r"OLLAMA_BASE_URL") as told:
        registry({"OLLAMA_BASE_URL": url})
    with pytest.raises(ConfigError, match=r"mine\.toml: base_url") as listed:
        with_catalog(tmp_path, f'name = "Mine"\nbase_url = "{url}"\n')
    assert not any("s3cret" in caught.value.message for caught in (said, told, listed))


def test_a_key_may_go_into_a_header_of_ones_own(tmp_path: Path) -> None:
    row = ROW + 'auth = "Ocp-Apim-Subscription-Key"\n[[models]]\nid = "m"\n'
    assert with_catalog(tmp_path, row).get("mine").why_not() == "no key: set MINE_KEY"
    mine = with_catalog(tmp_path, row, {"MINE_KEY": "k"}).get("mine")
    request = SPOKEN["openai"].request(mine, chat(model="m"))
    assert request.headers["ocp-apim-subscription-key"] == "k"
    assert "authorization" not in request.headers


def test_a_catalog_file_that_names_a_list_of_prices_which_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mine\.toml: genai_prices 'opneai' is unknown; did you mean openai"):
        with_catalog(tmp_path, ROW + 'genai_prices = "opneai"\n')


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


@pytest.mark.parametrize("name", ["vertex", "bedrock", "anthropic", "huggingface", "cloudflare_vectorize"])
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


def test_a_tier_of_a_vendor_has_the_prices_of_that_tier(tmp_path: Path) -> None:
    row = ROW + 'genai_prices = "openai"\nprice_context = { service_tier = "flex" }\n[[models]]\nid = "gpt-5"\n'
    (listed,) = with_catalog(tmp_path, row).get("mine").models
    said = ProviderSettings(price_context={"service_tier": "flex"})
    told = registry(openai=said.model_copy(update={"models": ("gpt-5", "gpt-4")})).get("openai").models
    assert listed.price is not None
    assert (listed.price.input, listed.price.output) == (625_000_000, 5_000_000_000)
    assert listed.price.source.endswith(", service_tier flex")
    assert told[0].price == listed.price
    assert told[1].price is not None
    assert told[1].price.input == 30_000_000_000  # it has no other price there, and its source says no more
    assert told[1].price.source.startswith("genai-prices ")
    assert "flex" not in told[1].price.source


@pytest.mark.parametrize(
    ("name", "context", "complaint"),
    [
        ("openai", {"service_tier": "felx"}, "service_tier = 'felx'.*; did you mean flex"),
        ("openai", {"servce_tier": "flex"}, "servce_tier = 'flex'.*; did you mean service_tier"),
        ("baichuan", {"service_tier": "flex"}, "no prices"),
    ],
)
def test_a_tier_that_nobody_prices_is_refused(name: str, context: dict[str, str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=rf"providers\.{name}\.price_context.*{complaint}"):
        registry(**{name: ProviderSettings(price_context=context)})


def test_models_that_make_embeddings_are_no_candidates() -> None:
    assert not [model.id for _, model in registry().candidates() if "embed" in model.id]


def test_ones_own_catalog_adds_and_replaces(tmp_path: Path) -> None:
    assert with_catalog(tmp_path, ROW + '[[models]]\nid = "m"\n', {"MINE_KEY": "k"}).get("mine").ready
    (tmp_path / "openai.toml").write_text(ROW)
    assert load(Settings(catalog=tmp_path), {}).get("openai").name == "Mine"


def test_an_address_with_a_gap_needs_what_fills_it(tmp_path: Path) -> None:
    row = 'name = "M"\nbase_url = "https://x.example/{account_id}/v1"\nauth = "none"\n'
    row += 'needs = { account_id = ["MY_ACCOUNT"] }\n[[models]]\nid = "m"\n'
    assert with_catalog(tmp_path, row).get("mine").why_not() == (
        "needs account_id: set MY_ACCOUNT or providers.mine.variables.account_id"
    )
    filled = with_catalog(tmp_path, row, {"MY_ACCOUNT": "a1"}).get("mine")
    assert filled.ready
    assert filled.base_url == "https://x.example/a1/v1"
    said = {"mine": ProviderSettings(variables={"account_id": "b2"})}
    assert load(Settings(catalog=tmp_path, providers=said), {}).get("mine").base_url == "https://x.example/b2/v1"


def test_a_retired_model_is_no_longer_offered(tmp_path: Path) -> None:
    row = ROW + '[[models]]\nid = "old"\nretires = 2026-01-01\n[[models]]\nid = "new"\n'
    (tmp_path / "mine.toml").write_text(row)
    before, after = (load(Settings(catalog=tmp_path), {}, datetime(year, 6, 1, tzinfo=UTC)) for year in (2025, 2026))
    assert [[model.id for model in one.get("mine").models] for one in (before, after)] == [["old", "new"], ["new"]]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (ROW + "chat_pth = 'x'\n", "unknown key chat_pth; did you mean chat_path"),
        (ROW + '[[models]]\nid = "m"\nreasonin = true\n', "did you mean reasoning"),
        (ROW + 'dialect = "klingon"\n', "dialect"),
        (ROW + 'chat_path = "/{account}/chat"\n', "account} in an address or path is not named in needs"),
        (ROW + 'errors = [{ meaning = "throtled" }]\n', "did you mean throttled"),
        (
            ROW + '[[models]]\nid = "m"\ninput_usd_mtok = "abc"\n',
            "models.m.input_usd_mtok: not an amount of money: 'abc'",
        ),
        (ROW + '[[models]]\nid = "m"\noutput_usd_mtok = -1\n', "models.m.output_usd_mtok: .*negative"),
        (ROW + "query_usd_mdim = 'nan'\n", "query_usd_mdim: not an amount of money"),
        (ROW + '[[models]]\nid = "m"\n[[models]]\nid = "m"\n', "models names 'm' twice"),
        (ROW + 'auth = "baerer"\n', "auth: .*baerer.*; did you mean bearer"),
        (ROW + 'auth = "x key: 1"\n', "auth: .*cannot be the name of a header"),
        ('name = "no address"\n', "base_url"),
        ("name = ", "not valid TOML"),
    ],
)
def test_a_catalog_file_that_is_wrong_says_where_and_what_was_meant(row: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        parse(row, "mine.toml")
    assert "mine.toml" in caught.value.message


@pytest.mark.parametrize(("name", "content"), [("no name.toml", ROW.encode()), ("mine.toml", b"name = '\xff'")])
def test_a_catalog_file_that_cannot_be_a_provider_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        load(Settings(catalog=tmp_path), {})


def test_a_path_under_a_moved_address_has_its_gaps_filled(tmp_path: Path) -> None:
    row = 'name = "M"\nbase_url = "https://x.example/{account}/v1"\nneeds = { account = ["MY_ACCOUNT"] }\n'
    (tmp_path / "mine.toml").write_text(row)
    said = {"mine": ProviderSettings(base_url="http://here:1")}
    found = load(Settings(catalog=tmp_path, providers=said), {"MY_ACCOUNT": "a1"})
    assert found.get("mine").base_url == "http://here:1/a1/v1"


def test_a_catalog_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a folder"):
        load(Settings(catalog=tmp_path / "nowhere"), {})


def test_a_dialect_in_which_nobody_talks_is_listed_but_answers_no_step(tmp_path: Path) -> None:
    row = ROW + 'dialect = "vectorize"\n[[models]]\nid = "m"\n'
    assert with_catalog(tmp_path, row, {"MINE_KEY": "k"}).get("mine").why_not() == (
        "makes or keeps vectors, and answers no step"
    )
