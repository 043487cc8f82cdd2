"""One's own catalog files: what they add and replace, what they may say, and every mistake with its place."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from goblin.errors import ConfigError
from goblin.settings import ProviderSettings, Settings
from providers.registry import Registry, load
from providers.row import parse
from providers.wire.spoken import SPOKEN
from tests.fakes.vendor import chat

ROW = 'name = "Mine"\nbase_url = "https://mine.example/v1"\nkey_env = "MINE_KEY"\n'


def with_catalog(folder: Path, content: str, environ: dict[str, str] | None = None) -> Registry:
    (folder / "mine.toml").write_text(content)
    return load(Settings(catalog=folder), environ or {})


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


def test_a_tier_of_a_vendor_has_the_prices_of_that_tier(tmp_path: Path) -> None:
    row = ROW + 'genai_prices = "openai"\nprice_context = { service_tier = "flex" }\n[[models]]\nid = "gpt-5"\n'
    (listed,) = with_catalog(tmp_path, row).get("mine").models
    said = ProviderSettings(price_context={"service_tier": "flex"})
    told = (
        load(Settings(providers={"openai": said.model_copy(update={"models": ("gpt-5", "gpt-4")})}), {})
        .get("openai")
        .models
    )
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
        load(Settings(providers={name: ProviderSettings(price_context=context)}), {})


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
