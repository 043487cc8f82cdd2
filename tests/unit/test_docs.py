"""Holds the pages to the code: states, statements, endpoints, commands, and everything they point at."""

import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined
from typer.main import get_command

from api.app import create
from cli.commands import app as commands
from goblin import settings
from goblin.settings import Settings
from ledger.session import statement
from ledger.states import ATTEMPT_EDGES, BATCH_EDGES, RUN_EDGES, STEP_EDGES

ROOT = Path(__file__).parents[2]
STATES = ROOT / "docs/state_machine.md"
MACHINES = {"Run": RUN_EDGES, "Step": STEP_EDGES, "Attempt": ATTEMPT_EDGES, "Batch": BATCH_EDGES}
SETTINGS = {
    "[providers.NAME]": settings.ProviderSettings,
    "Models": settings.ModelSettings,
    "[routing]": settings.RoutingSettings,
    "[routing.weights]": settings.Weights,
    "[goblins.NAME]": settings.GoblinSettings,
    "[goblins.NAME.retrieve]": settings.RetrieveSettings,
    "[limits]": settings.LimitSettings,
    "[batches]": settings.BatchSettings,
    "[cache]": settings.CacheSettings,
    "[worker]": settings.WorkerSettings,
    "[retention]": settings.RetentionSettings,
    "[server]": settings.ServerSettings,
    "In front of all tables": Settings,
}
FILES = ("py", "sql", "lua", "toml", "md", "yml", "txt", "html", "css", "js")
Edges = set[tuple[str, str]]


def pages() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", "*.md"], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def section(page: Path, heading: str) -> str:
    """What stands under a heading of the second level."""
    return re.split(r"^## ", page.read_text().split(f"\n## {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a section's tables, without heads and rules."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [cells for cells in lines if cells[0] != "from" and set(cells[0]) != {"-"}]


def edges(table: Mapping[Any, frozenset[Any]]) -> Edges:
    return {(str(state), str(following)) for state, after in table.items() for following in after}


def drawn(text: str) -> Edges:
    return set(re.findall(r"^ +(\w+) --> (\w+)$", text, re.MULTILINE))


def slugs(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def spoken(page: Path) -> Iterator[str]:
    """What a page sets in backticks, outside of blocks."""
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("machine", MACHINES)
def test_the_tables_hold_every_edge_and_no_other(machine: str) -> None:
    told = [(before, after) for before, after, *_ in rows(section(STATES, machine))]
    assert set(told) == edges(MACHINES[machine])
    assert len(told) == len(set(told))


@pytest.mark.parametrize("machine", MACHINES)
def test_the_pictures_draw_every_edge_and_no_other(machine: str) -> None:
    assert drawn(section(STATES, machine)) == edges(MACHINES[machine])


@pytest.mark.parametrize("machine", MACHINES)
def test_the_pictures_end_in_the_final_states(machine: str) -> None:
    ends = re.findall(r"^ +(\w+) --> \[\*\]$", section(STATES, machine), re.MULTILINE)
    assert sorted(ends) == sorted(str(state) for state, after in MACHINES[machine].items() if not after)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_edge_is_made_by_a_statement_that_is_there(machine: str) -> None:
    for before, after, _, cell in rows(section(STATES, machine)):
        named = re.findall(r"`(\w+\.\w+)`", cell)
        assert named or cell == "–", (before, after)
        for name in named:
            assert statement(name)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in slugs(there), target


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    named = re.compile(rf"(?:[\w.-]+/)+(?:[\w.-]+\.(?:{'|'.join(FILES)}))?")
    missing = [name for name in spoken(page) if named.fullmatch(name) and not (ROOT / name).exists()]
    assert not [name for name in missing if "NAME" not in name]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_targets_that_are_named_are_there(page: Path) -> None:
    known: Mapping[str, Any] = get_command(commands).commands  # type: ignore[attr-defined]
    text = page.read_text()
    said = re.findall(r"(?:`|^)goblin ([a-z]+)", text, re.MULTILINE)
    assert not set(said) - set(known)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert not set(re.findall(r"(?:`|^\$? ?)make ([a-z]+)", text, re.MULTILINE)) - targets


def test_the_page_about_http_holds_every_endpoint_and_no_other() -> None:
    told = set(re.findall(r"^### ([A-Z]+ /\S+)$", (ROOT / "docs/http.md").read_text(), re.MULTILINE))
    paths = create(Settings(), {}).openapi()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert told == served | {"WS /ws/stream/{stream_id}"}


@pytest.mark.parametrize("heading", SETTINGS)
def test_the_page_about_settings_holds_every_key_with_its_default(heading: str) -> None:
    known = SETTINGS[heading].model_fields
    tables = {name for name, field in known.items() if isinstance(field.default, settings.Section)}
    fields = known.keys() - tables - ({"providers", "goblins"} if SETTINGS[heading] is Settings else set())
    told = [cells for cells in rows(section(ROOT / "docs/settings.md", heading)) if cells[0] != "key"]
    assert sorted(name for cells in told for name in re.findall(r"`(\w+)`", cells[0])) == sorted(fields)
    for names, default, *_ in (cells for cells in told if len(cells) > 2):
        said = tomllib.loads(f"it = {default.strip('`')}")["it"] if default else None
        assert said == _in_toml(known[names.strip("`").partition("`")[0]].default), names


def _in_toml(default: Any) -> Any:
    if isinstance(default, tuple):
        return list(default)
    return None if default is PydanticUndefined else str(default) if isinstance(default, Path) else default


def test_no_word_of_the_glossary_is_told_twice() -> None:
    terms = [cells[0] for cells in rows((ROOT / "docs/glossary.md").read_text()) if cells[0] != "noun"]
    assert len(terms) == len(set(terms))


def test_decisions_are_numbered_and_say_why() -> None:
    for page in sorted((ROOT / "docs/adr").glob("*.md")):
        text = page.read_text()
        assert text.startswith(f"# {int(page.name[:4])}. "), page.name
        for part in ("Context", "Decision", "Consequences", "Rejected"):
            assert f"**{part}.**" in text, (page.name, part)
