"""`goblin providers test` and `--reach` against the simulator: what came back, or what to do about it."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from typer.testing import CliRunner, Result

from cli.commands import app

PATHS = {
    "openai": "/openai/v1",
    "anthropic": "/anthropic",
    "gemini": "/gemini",
    "ollama": "/ollama",
    "cohere": "/cohere",
}
KEY = "sk-never-to-be-shown"
OWN = ("GOBLIN_URL", "GOBLIN_API_KEY", "GOBLIN_CONFIG", "GOBLIN_PORT", "DATABASE_URL", "REDIS_URL", "GOBLIN_DEBUG")
Goblin = Callable[..., Result]


class Simulator(Protocol):
    @property
    def url(self) -> str: ...

    def last_call(self) -> dict[str, Any]: ...


@pytest.fixture
def goblin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulator: Simulator) -> Goblin:
    """Runs `goblin …` where every dialect is the simulator."""
    monkeypatch.chdir(tmp_path)
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOBLIN_HOME", str(tmp_path / "home"))
    Path("goblin.toml").write_text(
        "\n".join(
            f'[providers.{name}]\nbase_url = "{simulator.url}{path}"\napi_key = "{KEY}"\n'
            'models = ["sim-smart", "sim-instant"]\ninput_usd_mtok = "0.15"\noutput_usd_mtok = "0.60"\n'
            for name, path in PATHS.items()
        )
    )

    def run(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert KEY not in result.output + result.stderr
        return result

    return run


@pytest.mark.parametrize("name", PATHS)
def test_an_answer_is_told_with_its_tokens_and_its_cost(goblin: Goblin, simulator: Simulator, name: str) -> None:
    result = goblin("providers", "test", name, "--model", "sim-instant", "--json")
    assert result.exit_code == 0
    told, booked = json.loads(result.stdout), simulator.last_call()
    assert (told["ok"], told["provider"], told["model"]) == (True, name, "sim-instant")
    assert told["answer"]
    assert told["usage"]["input"] == booked["input_tokens"]
    assert told["usage"]["output"] == booked["output_tokens"]
    nanousd = booked["input_tokens"] * 150 + booked["output_tokens"] * 600
    assert told["cost_usd"] == f"0.{nanousd:09d}"
    assert 0 < told["ttft_s"] <= told["duration_s"]


def test_people_read_it_in_lines(goblin: Goblin) -> None:
    first, *lines = goblin("providers", "test", "openai", "--model", "sim-instant").stdout.splitlines()
    assert first.startswith("openai/sim-instant answered in ")
    assert [line.split("  ")[0] for line in lines] == ["answer", "first token", "tokens", "cost"]


def test_a_provider_that_is_switched_off_may_be_tried(goblin: Goblin) -> None:
    said = Path("goblin.toml").read_text().replace("[providers.openai]\n", "[providers.openai]\nenabled = false\n")
    Path("goblin.toml").write_text(said)
    assert goblin("providers", "test", "openai", "--model", "sim-instant").exit_code == 0


@pytest.mark.parametrize("name", ["voyage", "jina"])
def test_who_only_makes_vectors_is_asked_for_one(goblin: Goblin, simulator: Simulator, name: str) -> None:
    vectors_at(f"{simulator.url}/embeddings/{name}/v1", name)
    told = json.loads(goblin("providers", "test", name, "--json").stdout)
    booked = simulator.last_call()
    assert (told["ok"], told["provider"], told["model"]) == (True, name, "sim-embed")
    assert told["dimensions"] > 0
    assert told["usage"]["input"] == booked["input_tokens"]
    assert told["cost_usd"] == f"0.{booked['input_tokens'] * 20:09d}"
    first, *lines = goblin("providers", "test", name).stdout.splitlines()
    assert first.startswith(f"{name}/sim-embed answered in ")
    assert [line.split("  ")[0] for line in lines] == ["vector", "tokens", "cost"]


def test_a_model_that_makes_vectors_is_asked_for_one_where_others_talk(goblin: Goblin, simulator: Simulator) -> None:
    said = Path("goblin.toml").read_text()
    Path("goblin.toml").write_text(
        said.replace("[providers.openai]\n", '[providers.openai]\nembedding_models = ["sim-embed"]\n')
    )
    told = json.loads(goblin("providers", "test", "openai", "--model", "sim-embed", "--json").stdout)
    assert (told["ok"], told["model"]) == (True, "sim-embed")
    assert told["dimensions"] > 0


def test_who_makes_vectors_and_has_no_model_is_told_where_to_name_one(goblin: Goblin, simulator: Simulator) -> None:
    Path("goblin.toml").write_text(
        f'[providers.jina]\nbase_url = "{simulator.url}/embeddings/jina/v1"\napi_key = "{KEY}"\n'
    )
    result = goblin("providers", "test", "jina")
    assert result.exit_code == 1
    assert "providers.jina.embedding_models" in result.stderr
    assert goblin("providers", "test", "jina", "--model", "sim-embed").exit_code == 0


@pytest.mark.parametrize(
    ("model", "slug", "cure"),
    [
        ("sim-embed+auth", "bad_credentials", "check VOYAGE_API_KEY"),
        ("no-such-model", "unknown_model", "providers.voyage.embedding_models"),
    ],
)
def test_a_fault_in_place_of_a_vector_is_told_with_its_cure(
    goblin: Goblin, simulator: Simulator, model: str, slug: str, cure: str
) -> None:
    vectors_at(f"{simulator.url}/embeddings/voyage/v1", "voyage")
    told = json.loads(goblin("providers", "test", "voyage", "--model", model, "--json").stdout)
    assert (told["ok"], told["error"]["type"]) == (False, slug)
    assert cure in told["cure"]


def test_an_index_is_asked_what_it_holds(goblin: Goblin, simulator: Simulator) -> None:
    path = "/cloudflare/client/v4/accounts/a1/vectorize/v2"
    config = {"dimensions": 32, "metric": "cosine"}
    created = httpx.post(
        f"{simulator.url}{path}/indexes",
        json={"name": "docs", "config": config},
        headers={"authorization": f"Bearer {KEY}"},
    )
    assert created.is_success
    Path("goblin.toml").write_text(
        f'[providers.cloudflare_vectorize]\nbase_url = "{simulator.url}{path}"\napi_key = "{KEY}"\n'
    )
    told = json.loads(goblin("providers", "test", "cloudflare_vectorize", "--json").stdout)
    assert (told["ok"], told["index"], told["vectors"], told["dimensions"]) == (True, "docs", 0, 32)
    first, *lines = goblin("providers", "test", "cloudflare_vectorize").stdout.splitlines()
    assert first.startswith("cloudflare_vectorize: the index docs answered in ")
    assert lines == ["holds        0 vectors of 32 dimensions", "a search     $0.000000320"]
    missing = goblin("providers", "test", "cloudflare_vectorize", "--model", "nowhere")
    assert missing.exit_code == 1
    assert "goblins.NAME.retrieve" in missing.stderr


def vectors_at(url: str, name: str) -> None:
    Path("goblin.toml").write_text(
        f'[providers.{name}]\nbase_url = "{url}"\napi_key = "{KEY}"\n'
        'embedding_models = [{id = "sim-embed", input_usd_mtok = "0.02"}]\n'
    )


def test_a_model_without_a_price_is_tried_and_said_to_have_none(goblin: Goblin, simulator: Simulator) -> None:
    Path("goblin.toml").write_text(f'[providers.mine]\nbase_url = "{simulator.url}/openai/v1"\napi_key = "k"\n')
    result = goblin("providers", "test", "mine", "--model", "sim-instant")
    assert result.exit_code == 0
    assert "set providers.mine.input_usd_mtok and providers.mine.output_usd_mtok" in result.stdout


@pytest.mark.parametrize(
    ("model", "slug", "cure"),
    [
        ("sim-instant+auth", "bad_credentials", "check OPENAI_API_KEY"),
        ("sim-instant+quota", "quota_spent", "the vendor's account"),
        ("sim-instant+fail=429", "throttled", "providers.openai.rpm"),
        ("sim-instant+overloaded", "overloaded", "later"),
        ("sim-instant+cut=1", "broken_stream", "connection"),
        ("sim-instant+malformed=1", "malformed", "providers.openai.dialect"),
        ("no-such-model", "unknown_model", "--model"),
    ],
)
def test_a_fault_is_told_with_its_cure(goblin: Goblin, model: str, slug: str, cure: str) -> None:
    result = goblin("providers", "test", "openai", "--model", model)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert cure in line
    told = json.loads(goblin("providers", "test", "openai", "--model", model, "--json").stdout)
    assert (told["ok"], told["error"]["type"]) == (False, slug)
    assert cure in told["cure"]


def test_a_server_that_is_not_there_is_told_with_its_address(goblin: Goblin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    Path("goblin.toml").write_text(f'[providers.openai]\nbase_url = "{url}"\napi_key = "{KEY}"\n')
    result = goblin("providers", "test", "openai")
    assert result.exit_code == 1
    assert url in result.stderr


def test_a_provider_without_its_key_is_not_called(goblin: Goblin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    result = goblin("providers", "test", "groq")
    assert result.exit_code == 1
    assert "set GROQ_API_KEY" in result.stderr


def test_a_provider_that_nobody_knows_names_the_nearest(goblin: Goblin) -> None:
    result = goblin("providers", "test", "opnai")
    assert result.exit_code == 2
    assert "did you mean openai" in result.stderr


def test_those_that_are_ready_are_asked_and_what_they_said_is_told(goblin: Goblin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nowhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Path("goblin.toml").open("a") as file:
        file.write(f'\n[providers.mine]\nbase_url = "{nowhere}/v1"\nmodels = ["m"]\n')
        file.write(f'\n[providers.vllm]\nbase_url = "{nowhere}"\nmodels = ["m"]\n')
    reached = {one["id"]: one["reached"] for one in json.loads(goblin("providers", "--json").stdout)}
    assert {name: reached[name] for name in PATHS} == dict.fromkeys(PATHS, "yes")
    assert reached["mine"].startswith("no: mine cannot be reached")  # it has no list: its door was knocked at
    assert reached["vllm"].startswith("no: vLLM server cannot be reached")
