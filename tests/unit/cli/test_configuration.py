"""`goblin check` and `goblin providers`: what is understood, what is missing, and never a secret."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.fakes.scripts import hang_up, say
from tests.fakes.vendor import Vendor

Goblin = Callable[..., Result]
SECRET = "sk-do-not-show-me"


def test_it_says_who_is_ready_and_what_the_others_lack(goblin: Goblin) -> None:
    result = goblin("check", OPENAI_API_KEY=SECRET)
    assert result.exit_code == 0
    ready = next(line for line in result.stdout.splitlines() if line.startswith("ready"))
    assert "openai" in ready
    assert "no key: set ANTHROPIC_API_KEY" in result.stdout


def test_no_secret_is_printed(goblin: Goblin) -> None:
    nowhere = 'base_url = "http://127.0.0.1:9"\n'
    Path("goblin.toml").write_text(
        f'[providers.anthropic]\napi_key = "{SECRET}"\n{nowhere}[providers.openai]\n{nowhere}'
    )
    for arguments in (["check"], ["check", "--json"], ["providers", "--all"], ["providers", "--json"]):
        result = goblin(*arguments, OPENAI_API_KEY=SECRET, DATABASE_URL=f"postgresql://me:{SECRET}@127.0.0.1:9/x")
        assert result.exit_code == 0
        assert SECRET not in result.output


def test_an_unknown_key_is_named_with_the_nearest_one(goblin: Goblin) -> None:
    Path("mine.toml").write_text("[providers.openai]\napi_kee = 'x'\n")
    result = goblin("check", "mine.toml")
    assert result.exit_code == 2
    assert "mine.toml: unknown key providers.openai.api_kee; did you mean api_key" in result.stderr


def test_a_budget_that_is_no_money_is_refused(goblin: Goblin) -> None:
    Path("goblin.toml").write_text("[routing]\nbudget_daily = 'much'\n")
    result = goblin("check")
    assert result.exit_code == 2
    assert "routing.budget_daily" in result.stderr


def test_a_goblin_that_prefers_nobody_is_refused(goblin: Goblin) -> None:
    Path("goblin.toml").write_text("[goblins.chat]\nproviders = ['opnai']\n")
    result = goblin("check")
    assert result.exit_code == 2
    assert "openai" in result.stderr


MAKER = """
[providers.mine]
base_url = "http://127.0.0.1:9/v1"
models = []
embedding_models = [{id = "near", input_usd_mtok = "0.02"}, "dear"]
"""


def looking_up(table: str) -> None:
    goblin = f'[goblins.find]\ninstructions = "x"\ntask_class = "fast"\nretrieve = {{{table}}}\n'
    Path("goblin.toml").write_text(MAKER + goblin)


def test_a_goblin_that_looks_things_up_is_told_what_it_lacks(goblin: Goblin) -> None:
    looking_up('index = "docs", model = "mine/near"')
    cloud = {"CLOUDFLARE_API_TOKEN": SECRET, "CLOUDFLARE_ACCOUNT_ID": "a1"}
    assert json.loads(goblin("check", "--json", **cloud).stdout)["lookups"]["find"] == "ready"
    shown = goblin("check").stdout
    row = next(line for line in shown.splitlines() if line.startswith("find") and "cloudflare_vectorize: " in line)
    assert "CLOUDFLARE_ACCOUNT_ID" in row
    without_key = goblin("check", "--json", CLOUDFLARE_ACCOUNT_ID="a1")
    assert "CLOUDFLARE_API_TOKEN" in json.loads(without_key.stdout)["lookups"]["find"]
    assert "OPENAI_API_KEY" in json.loads(goblin("check", "--json", **cloud).stdout)["lookups"]["retrieve"]


def test_vectors_without_a_price_are_told_with_the_cure(goblin: Goblin) -> None:
    looking_up('index = "docs", model = "dear"')
    lack = json.loads(goblin("check", "--json").stdout)["lookups"]["find"]
    assert "mine/dear: its price is not known: set one in goblin.toml" in lack


@pytest.mark.parametrize(
    ("table", "key", "cure"),
    [
        ('index = "docs", model = "mine/naer"', "goblins.find.retrieve.model", "mine/near"),
        ('index = "docs", model = "unheard-of"', "goblins.find.retrieve.model", "embedding_models"),
        ('index = "docs", model = "near", store = "voyage"', "goblins.find.retrieve.store", "cloudflare_vectorize"),
        ('index = "docs", model = "near", store = "mine"', "goblins.find.retrieve.store", "cloudflare_vectorize"),
    ],
)
def test_a_goblin_that_looks_things_up_nowhere_is_refused(goblin: Goblin, table: str, key: str, cure: str) -> None:
    looking_up(table)
    result = goblin("check")
    assert result.exit_code == 2
    assert key in result.stderr
    assert cure in result.stderr


def test_providers_show_keys_models_and_prices(goblin: Goblin) -> None:
    Path("goblin.toml").write_text(
        "[providers.mine]\nbase_url = 'http://127.0.0.1:9/v1'\nmodels = ['small']\n"
        "input_usd_mtok = '0.075'\noutput_usd_mtok = '3'\n"
    )
    row = next(line for line in goblin("providers", "--no-reach").stdout.splitlines() if line.startswith("mine"))
    assert row.split() == ["mine", "not", "needed", "yes", "small", "0.075", "3.00"]
    mine = next(one for one in json.loads(goblin("providers", "--json", "--no-reach").stdout) if one["id"] == "mine")
    assert (mine["models"][0]["input_usd_mtok"], mine["reached"]) == ("0.075", None)


def test_those_that_are_ready_are_asked_whether_they_are_there(goblin: Goblin) -> None:
    listing, refusal = say("200 OK", b'{"data": [{"id": "small"}]}'), say("401 No", b'{"error": "no such key"}')
    with Vendor(listing, refusal) as openai, Vendor(say("404 Not Found")) as mine, Vendor(hang_up) as mute:
        urls = {"openai": openai.url, "mine": mine.url, "mute": mute.url, "away": "http://127.0.0.1:9"}
        rows = (f"[providers.{name}]\nbase_url = '{url}'\nmodels = ['small']\n" for name, url in urls.items())
        Path("goblin.toml").write_text("".join(rows))
        table = goblin("providers", OPENAI_API_KEY=SECRET).stdout.partition("\n\n")[0]
        again = json.loads(goblin("providers", "--json", OPENAI_API_KEY=SECRET).stdout)
    said = {line.split()[0]: " ".join(line.split()) for line in table.splitlines()}
    assert said["id"].endswith("success reached")
    assert said["openai"].endswith(" yes")
    assert said["mine"].endswith(" yes")  # it has no list: that it answers is enough
    assert "no: mute cannot be reached" in said["mute"]
    assert "no: away cannot be reached" in said["away"]
    reached = {one["id"]: one["reached"] for one in again}
    assert "no such key" in reached["openai"]
    assert reached["anthropic"] is None  # not asked: it has no key


def test_those_that_are_not_ready_are_apart_and_counted(goblin: Goblin) -> None:
    some = goblin("providers", "--no-reach", OPENAI_API_KEY=SECRET)
    assert "ai21" not in some.stdout
    assert "more are not ready: `goblin providers --all`" in some.stderr
    ready, _, lacking = goblin("providers", "--no-reach", "--all", OPENAI_API_KEY=SECRET).stdout.split("\n\n")
    assert any(line.startswith("openai ") for line in ready.splitlines())
    row = next(line for line in lacking.splitlines() if line.startswith("ai21 "))
    assert row.split("  ")[-1].strip() == "no key: set AI21_API_KEY"


def test_prices_of_the_catalog_are_shown_before_there_is_a_key(goblin: Goblin) -> None:
    lacking = goblin("providers", "--all").stdout.split("\n\n")[-1].splitlines()
    assert lacking[0].split("  ")[0] == "not ready"
    row = next(line for line in lacking if line.startswith("groq "))
    assert "0.075 – 0.80" in row
    assert "0.30 – 4.00" in row
    assert row.split("  ")[-1].strip() == "no key: set GROQ_API_KEY"


def test_who_makes_or_keeps_vectors_is_shown_with_the_price(goblin: Goblin) -> None:
    keys = {"OPENAI_API_KEY": SECRET, "VOYAGE_API_KEY": SECRET, "CLOUDFLARE_API_TOKEN": SECRET}
    shown = goblin("providers", "--no-reach", "--all", CLOUDFLARE_ACCOUNT_ID="a1", **keys)
    _, vectors, lacking = (part.splitlines() for part in shown.stdout.split("\n\n"))
    rows = {line.split()[0]: line.split()[1:] for line in vectors}
    assert rows["openai"] == ["yes", "text-embedding-3-small", "0.02"]
    assert rows["voyage"] == ["yes", "voyage-4,", "voyage-4-lite", "0.02", "–", "0.06"]
    assert rows["cloudflare_vectorize"] == ["yes", "(keeps", "them)", "0.01", "for", "dimensions"]
    assert rows["ollama"] == ["not", "needed", "embeddinggemma", "0.00"]
    assert rows["mistral"] == ["no", "mistral-embed", "0.10"]
    assert not any(line.startswith(("voyage ", "cloudflare_vectorize ")) for line in lacking)
    (jina,) = (line for line in lacking if line.startswith("jina "))
    assert "no key: set JINA_API_KEY" in jina
    plain = goblin("providers", "--no-reach", **keys).stdout.split("\n\n")[1]
    assert "mistral" not in plain
    assert "ollama" not in plain
    known = {one["id"]: one for one in json.loads(goblin("providers", "--no-reach", "--json", **keys).stdout)}
    (small,) = known["openai"]["embedding_models"]
    assert (small["id"], small["input_usd_mtok"]) == ("text-embedding-3-small", "0.02")
    assert small["price_source"].startswith("genai-prices ")
    assert [one["id"] for one in known["mistral"]["embedding_models"]] == ["mistral-embed"]
    assert known["cloudflare_vectorize"]["query_usd_mdim"] == "0.01"


def test_a_provider_whose_models_have_no_price_says_so(goblin: Goblin) -> None:
    row = next(
        line
        for line in goblin("providers", "--no-reach", BAICHUAN_API_KEY=SECRET).stdout.splitlines()
        if line.startswith("baichuan")
    )
    assert "no price: set one in goblin.toml" in row


def test_a_model_that_is_never_asked_is_told_with_the_key_that_prices_it(goblin: Goblin) -> None:
    Path("goblin.toml").write_text(
        "[providers.mine]\nbase_url = 'http://127.0.0.1:9/v1'\nmodels = ['dear', {id = 'cheap', input_usd_mtok = 1,"
        " output_usd_mtok = 2}]\nembedding_models = ['near']\n"
    )
    lines = goblin("check").stdout.splitlines()
    assert "mine (2 models, 1 never asked)" in next(line for line in lines if line.startswith("ready"))
    lacking = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in lines if line.startswith("mine/")}
    assert lacking == {
        "mine/dear": "set providers.mine.input_usd_mtok and .output_usd_mtok, or the model's own in .models",
        "mine/near": "set providers.mine.input_usd_mtok, or the model's own in .embedding_models",
    }
    unpriced = json.loads(goblin("check", "--json").stdout)["unpriced"]
    assert list(unpriced) == ["mine/dear", "mine/near"]
    assert "providers.mine.input_usd_mtok" in unpriced["mine/near"]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('[[models]]\nid = "m"\ninput_usd_mtok = "abc"\n', "mine/acme.toml: models.m.input_usd_mtok: not an amount"),
        ('[[models]]\nid = "m"\noutput_usd_mtok = -1\n', "mine/acme.toml: models.m.output_usd_mtok: an amount"),
        ('[[models]]\nid = "m"\n[[models]]\nid = "m"\n', "mine/acme.toml: models names 'm' twice"),
        ('genai_prices = "opneai"\n', "acme.toml: genai_prices 'opneai' is unknown; did you mean openai"),
    ],
)
def test_ones_own_catalog_file_that_is_wrong_is_named_with_its_key(goblin: Goblin, row: str, complaint: str) -> None:
    Path("mine").mkdir()
    Path("goblin.toml").write_text("catalog = 'mine'\n")
    Path("mine/acme.toml").write_text('name = "Acme"\nbase_url = "https://acme.example/v1"\n' + row)
    result = goblin("check")
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_ones_own_catalog_is_checked_and_counted(goblin: Goblin) -> None:
    Path("mine").mkdir()
    Path("goblin.toml").write_text("catalog = 'mine'\n")
    row = Path("mine/acme.toml")
    row.write_text('name = "Acme"\nbase_url = "https://acme.example/v1"\nkey_env = "ACME_KEY"\n')
    shipped = len(json.loads(goblin("providers", "--json").stdout)) - 1
    result = goblin("check", ACME_KEY=SECRET)
    assert result.exit_code == 0
    assert f"catalog    {shipped} providers shipped, 1 of your own in mine" in result.stdout
    assert json.loads(goblin("check", "--json").stdout)["catalog"] == {"shipped": shipped, "own": ["acme"]}
    row.write_text('name = "Acme"\nbase_url = "https://acme.example/v1"\nkey_evn = "ACME_KEY"\n')
    result = goblin("check")
    assert result.exit_code == 2
    assert "acme.toml: unknown key key_evn; did you mean key_env" in result.stderr


def test_health_comes_from_a_running_api(goblin: Goblin, api: object) -> None:
    health = {"latency": 0.25, "success_rate": 0.5, "cost_per_token": None}
    api.answer("GET", "/providers", (200, json.dumps({"providers": [{"id": "openai", "health": health}]})))  # type: ignore[attr-defined]
    shown = goblin("providers", "--no-reach", GOBLIN_URL=api.url, OPENAI_API_KEY=SECRET).stdout  # type: ignore[attr-defined]
    row = next(line for line in shown.splitlines() if line.startswith("openai"))
    assert row.split()[-3:] == ["0.25", "s", "50%"]
