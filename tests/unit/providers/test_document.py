"""The page about providers is the catalog's, and tells what each lacks."""

import subprocess
import sys
from pathlib import Path

from providers.document import page
from providers.row import parse, rows

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/providers.md"


def cells(text: str, first: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_is_up_to_date() -> None:
    command = [sys.executable, "-m", "providers.document"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert PAGE.read_text() == printed, "run `make docs`"


def test_every_provider_and_every_model_is_on_it() -> None:
    text = PAGE.read_text()
    for name, row in rows().items():
        assert cells(text, name)[1] == row.name
        assert all(f"| {name} | `{model.id}` |" in text for model in row.models)


def test_it_tells_what_a_provider_needs_and_what_its_models_cost() -> None:
    row = 'name = "Acme"\nbase_url = "https://{zone}.acme.example"\nkey_env = "ACME_KEY"\ngathered = 2026-01-02\n'
    row += (
        'needs = { zone = ["ACME_ZONE"] }\nenabled = false\n[[models]]\nid = "m"\ncontext = 1000\nsource = "a list"\n'
    )
    text = page({"acme": parse(row + "input_usd_mtok = 0.5\noutput_usd_mtok = 2\n", "acme.toml")})
    assert cells(text, "acme") == [
        *("acme", "Acme", "openai", "`ACME_KEY`", "`https://{zone}.acme.example`"),
        "`providers.acme.enabled = true`; zone: `ACME_ZONE`",
    ]
    assert "| acme | `m` | 1,000 | fast, reasoning | 0.50 |  | 2.00 | catalog: a list |" in text
    text = page({"acme": parse(row + 'unpriced = "nobody told"\n', "acme.toml")})
    assert "| unknown |  |  | nobody told |" in text
