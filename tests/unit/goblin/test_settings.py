"""Settings: what an operator may write and how, which word counts, and what bad ones are told."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goblin.errors import ConfigError
from goblin.settings import Settings, load

# The configuration that the product was conceived with.
FIRST = """
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
cost_per_token = 0.0  # Free local models
max_tokens = 2048

[routing]
budget_hourly = 10.0
budget_daily = 50.0
prefer_local = true
circuit_breaker_threshold = 0.8
health_check_interval = 60
"""
SECRET = "sk-hunter2-hunter2"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "goblin.toml"


def given_text(file: Path, text: str, **environ: str) -> Settings:
    file.write_text(text)
    return load(file, environ)


def complaint(file: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        given_text(file, text, **environ)
    return caught.value.message.replace(f"{file}", "FILE")


def test_the_first_configuration_loads_as_it_stands(file: Path) -> None:
    settings = given_text(file, FIRST, OPENAI_API_KEY=SECRET)
    openai, ollama = settings.providers["openai"], settings.providers["ollama"]
    assert openai.api_key is not None
    assert openai.api_key.get_secret_value() == SECRET
    assert (openai.enabled, openai.priority, openai.cost_per_token, openai.max_tokens) == (True, 1, 0.002, 4096)
    assert (openai.models, ollama.models) == (("gpt-4", "gpt-3.5-turbo"), ("deepseek-coder:1.3b", "llama2:7b"))
    assert (ollama.base_url, ollama.cost_per_token) == ("http://localhost:11434", 0)
    routing = settings.routing
    assert (routing.budget_hourly, routing.budget_daily, routing.prefer_local) == (10, 50, True)
    assert (routing.circuit_breaker_threshold, routing.health_check_interval) == (0.8, 60)


def test_nothing_need_be_written(file: Path) -> None:
    settings = load(environ={})
    assert (settings.routing.budget_hourly, settings.routing.budget_daily) == ("10", "50")
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 3001)
    assert set(settings.goblins) == {
        "docs-writer", "code-writer", "analyze", "review", "plan",
        "optimize", "deploy", "chat", "translate", "summarize", "retrieve",
    }  # fmt: skip
    assert {name for name, goblin in settings.goblins.items() if goblin.verdict} == {"analyze", "review"}
    fast = {name for name, goblin in settings.goblins.items() if goblin.task_class == "fast"}
    assert fast == {"chat", "translate", "summarize", "retrieve"}


def test_a_shipped_goblin_keeps_what_is_not_changed(file: Path) -> None:
    text = '[goblins.review]\nmax_output_tokens = 99\n[goblins.poet]\ntask_class = "fast"\ninstructions = "Rhyme."'
    settings = given_text(file, text)
    assert settings.goblins["review"].max_output_tokens == 99
    assert settings.goblins["review"].verdict
    assert settings.goblins["poet"].instructions == "Rhyme."
    assert len(settings.goblins) == 12


def test_the_environment_wins_over_the_file(file: Path) -> None:
    text = 'log_level = "warning"\nredis_url = "redis://file"\n[server]\nport = 4000\nhost = "here"'
    env = {
        "REDIS_URL": "redis://env",
        "DATABASE_URL": "postgres://u@h/d",
        "GOBLIN_PORT": "5000",
        "GOBLIN_CONCURRENCY": "7",
        "GOBLIN_HOME": "/tmp/goblin",
    }
    settings = given_text(file, text, **env)
    assert settings.require_redis_url() == "redis://env"
    assert settings.require_database_url() == "postgres://u@h/d"
    assert (settings.server.port, settings.server.host, settings.worker.concurrency) == (5000, "here", 7)
    assert (settings.home, settings.log_level) == (Path("/tmp/goblin"), "WARNING")


@pytest.mark.parametrize(
    ("env", "level"),
    [
        ({}, "INFO"),
        ({"DEBUG": "true"}, "DEBUG"),
        ({"DEBUG": "0"}, "INFO"),
        ({"DEBUG": "1", "LOG_LEVEL": "error"}, "ERROR"),
    ],
)
def test_the_log_level_comes_from_the_environment(env: dict[str, str], level: str) -> None:
    assert load(environ=env).log_level == level


def test_variables_that_are_for_others_are_left_alone() -> None:
    load(environ={"VITE_GOBLIN_RUNTIME": "fastapi", "SENTRY_DSN": "x", "OLLAMA_BASE_URL": "http://localhost:1"})


def test_the_file_is_named_by_the_environment(file: Path) -> None:
    file.write_text("[server]\nport = 4242")
    assert load(environ={"GOBLIN_CONFIG": str(file)}).server.port == 4242


def test_a_reference_is_replaced_wherever_it_stands(file: Path) -> None:
    text = """
    [providers.azure]
    base_url = "https://${NAME}.test/${NAME}"
    models = ["${MODEL}", "b"]
    variables.region = "${NAME}"
    """
    azure = given_text(file, text, NAME="north", MODEL="a").providers["azure"]
    assert azure.base_url == "https://north.test/north"
    assert azure.models == ("a", "b")
    assert azure.variables == {"region": "north"}


def test_a_value_that_refers_to_what_is_not_set_is_absent(file: Path) -> None:
    text = '[providers.azure]\napi_key = "${KEY}"\nbase_url = "https://${NAME}.test"\nmodels = ["${MODEL}", "b"]'
    azure = given_text(file, text, KEY="").providers["azure"]
    assert (azure.api_key, azure.base_url, azure.models) == (None, None, ("b",))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[providers.openai]\nprioritty = 1", "unknown key providers.openai.prioritty; did you mean priority"),
        ("[routng]\nprefer_local = true", "unknown key routng; did you mean routing?"),
        ("[routing]\nbudget_hourli = 1", "unknown key routing.budget_hourli; did you mean budget_hourly"),
        ("[routing.weights]\nlatenci = 1", "unknown key routing.weights.latenci; did you mean latency?"),
        ("[goblins.chat]\ninstrctions = 'x'", "unknown key goblins.chat.instrctions; did you mean instructions?"),
        (
            "[[providers.x.models]]\nid = 'a'\ncontxt = 5",
            "unknown key providers.x.models.0.contxt; did you mean context",
        ),
        ("[providers.x]\nqqqqqq = 1", "unknown key providers.x.qqqqqq"),
    ],
)
def test_an_unknown_key_names_the_nearest(file: Path, text: str, told: str) -> None:
    assert complaint(file, text).startswith(f"FILE: {told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[server]\nport = 99999", "FILE: server.port: "),
        ("[routing]\ncircuit_breaker_threshold = 1.5", "FILE: routing.circuit_breaker_threshold: "),
        ("[routing]\nbudget_hourly = 'ten'", "FILE: routing.budget_hourly: not an amount of money: 'ten'"),
        ("[routing]\nbudget_daily = -1", "FILE: routing.budget_daily: an amount of money cannot be negative"),
        ("[routing]\nbudget_daily = inf", "FILE: routing.budget_daily: "),
        ("[providers.x]\ntimeout = nan", "FILE: providers.x.timeout: "),
        ("[providers.x]\ninput_usd_mtok = 'free'", "FILE: providers.x.input_usd_mtok: not an amount of money: 'free'"),
        ("[providers.x]\nmodels = [5]", "FILE: providers.x.models.0: "),
        ("[[providers.x.models]]\nid = 'a'\ncontext = 'big'", "FILE: providers.x.models.0.context: "),
        ("[goblins.poet]\ninstructions = 'Rhyme.'", "FILE: goblins.poet.task_class: Field required"),
        ("log_level = 'loud'", "FILE: log_level: Input should be 'DEBUG', 'INFO'"),
        ("providers = 5", "FILE: providers: "),
        ("[providers.'a.b']\nenabled = true", "'a.b' cannot be a name"),
        (
            "[goblins.'" + "x" * 31 + "']\ntask_class = 'fast'\ninstructions = 'x'",
            "'" + "x" * 31 + "' cannot be a name",
        ),
        ("[providers.x\n", "FILE is not valid TOML: "),
        ("a = 'a", "FILE is not valid TOML: "),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_place(file: Path, text: str, told: str) -> None:
    assert complaint(file, text).startswith(told)


def test_a_variable_that_cannot_be_used_is_named_itself(file: Path) -> None:
    assert complaint(file, "", GOBLIN_PORT="http").startswith("GOBLIN_PORT: ")
    assert complaint(file, "[server]\nport = 'http'").startswith("FILE: server.port: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere.toml: No such file"):
        load(tmp_path / "nowhere.toml", {})


def test_a_file_that_is_not_text_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(file, {})


def test_what_must_be_a_list_is_told_in_the_words_of_the_file(file: Path) -> None:
    assert complaint(file, '[providers.openai]\nmodels = "gpt"').endswith("models: Input should be a valid list")


@pytest.mark.parametrize("url", ["localhost:6379", "http://h", "redis://h:port", "unix:///run/redis.sock"])
def test_what_is_no_address_of_a_redis_is_refused_with_the_cure(file: Path, url: str) -> None:
    assert "write redis://host:6379" in complaint(file, "", REDIS_URL=url)


@pytest.mark.parametrize("url", ["sqlite:///./goblin.db", "mysql://u@h/d"])
def test_another_database_is_refused_with_the_cure(file: Path, url: str) -> None:
    told = complaint(file, "", DATABASE_URL=url)
    assert f"DATABASE_URL names {url.split(':')[0]!r}" in told
    assert "postgresql://user@host/database" in told
    assert "goblin up" in told


@pytest.mark.parametrize("url", ["postgresql://u@h/d", "postgres://u@h/d", "postgresql+psycopg://u@h/d"])
def test_postgres_is_taken_under_all_its_names(url: str) -> None:
    assert load(environ={"DATABASE_URL": url}).require_database_url() == url


def test_what_is_not_configured_is_said_with_the_cure() -> None:
    settings = load(environ={})
    with pytest.raises(ConfigError, match="set DATABASE_URL, or use `goblin up`"):
        settings.require_database_url()
    with pytest.raises(ConfigError, match="set REDIS_URL, or use `goblin up`"):
        settings.require_redis_url()


@pytest.mark.parametrize(
    ("text", "env"),
    [
        ("[providers.x]\napi_key = '${KEY}'\nmodels = 5", {"KEY": SECRET}),
        (f"[providers.x]\napi_key = '{SECRET}'\nfoo = '{SECRET}'", {}),
        (f"[providers.x]\napi_key = ['{SECRET}']", {}),
        ("", {"DATABASE_URL": f"mysql://u:{SECRET}@h/d"}),
        ("", {"DATABASE_URL": SECRET}),
        (f"database_url = 'oracle://u:{SECRET}@h/d'", {}),
        ("[server]\nport = '${KEY}'", {"KEY": SECRET}),
    ],
)
def test_no_error_shows_a_secret(file: Path, text: str, env: dict[str, str]) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, env)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r}"
        error = error.__cause__


def test_no_text_of_settings_shows_a_secret(file: Path) -> None:
    env = {"KEY": SECRET, "DATABASE_URL": f"postgresql://u:{SECRET}@h/d", "REDIS_URL": f"redis://:{SECRET}@h"}
    settings = given_text(file, "[providers.x]\napi_key = '${KEY}'", **env)
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(environ={}).server.port = 1  # type: ignore[misc]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_text_does_anything_but_load_or_be_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(text)
    with suppress(ConfigError):
        load(file, {})
