"""Guards the house: sizes, names and what may be named. The floors themselves are held by import-linter."""

import ast
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = ("goblin", "workflow", "providers", "ledger", "routing", "workers", "scheduler", "api", "cli", "migrations")
VAGUE = {"util", "utils", "helper", "helpers", "common", "base", "manager", "service", "core", "misc"}
LOOK_HERE, TOO_LONG = 400, 600  # lines
REGISTRIES = [
    ".".join(name)
    for name in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs"),
        ("crates", "io"),
        ("ghcr", "io"),
        ("docker", "io"),
        ("quay", "io"),
        ("jsdelivr", "net"),
        ("unpkg", "com"),
    )
]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def modules(floor: str) -> list[Path]:
    return sorted((ROOT / floor).rglob("*.py"))


def imported(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("floor", FLOORS)
def test_every_floor_is_there(floor: str) -> None:
    assert (ROOT / floor / "__init__.py").read_text() == ""


@pytest.mark.parametrize("floor", FLOORS)
def test_no_module_has_a_name_that_says_nothing(floor: str) -> None:
    assert not [path for path in modules(floor) if path.stem in VAGUE or path.parent.name in VAGUE]


def test_no_file_grows_beyond_reading() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in tracked() if path.suffix == ".py"}
    for path, lines in lengths.items():
        if lines > LOOK_HERE:
            warnings.warn(f"{path.relative_to(ROOT)} has {lines} lines: is there a seam?", stacklevel=1)
    assert not {path: lines for path, lines in lengths.items() if lines > TOO_LONG}


@pytest.mark.parametrize("floor", [floor for floor in FLOORS if floor != "migrations"])
def test_nobody_imports_the_migrations(floor: str) -> None:
    assert not [path for path in modules(floor) if any(name.split(".")[0] == "migrations" for name in imported(path))]


def test_the_simulator_knows_nothing_of_those_who_call_it() -> None:
    allowed = {"goblin", "providers.simulator"}
    for path in modules("providers/simulator"):
        ours = [name for name in imported(path) if name.split(".")[0] in FLOORS]
        assert not [name for name in ours if not any(name == door or name.startswith(door + ".") for door in allowed)]


def test_every_module_says_what_it_owns() -> None:
    silent = [
        path
        for floor in FLOORS
        for path in modules(floor)
        if path.read_text() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_no_tracked_file_names_a_package_registry() -> None:
    found = [
        (str(path.relative_to(ROOT)), host)
        for path in tracked()
        for host in REGISTRIES
        if host.encode() in path.read_bytes()
    ]
    assert not found


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-dev.txt", "constraints-bench.txt"])
def test_every_constraint_is_one_version_with_hashes(name: str) -> None:
    text = (ROOT / name).read_text()
    requirements = text.replace("\\\n", "").splitlines()
    pinned = [line for line in requirements if line and not line.startswith("#")]
    assert len(pinned) > 50
    assert all("==" in line and "--hash=sha256:" in line for line in pinned)
    assert "://" not in text
