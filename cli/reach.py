"""Finding the API that commands talk to: GOBLIN_URL, else the usual port, else the one that `goblin up` has noted."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cli.client import Api, key_of_environment
from goblin.errors import ConfigError, Unavailable
from goblin.settings import Settings, environment, load

NOTE = "up.json"  # in GOBLIN_HOME, while `goblin up` runs there


@dataclass(frozen=True, slots=True)
class Reached:
    """An API, and whether it ends with this command."""

    api: Api
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """Where what `goblin up` started is to be found."""

    url: str
    database_url: str


def find(settings: Settings) -> Api | None:
    """The API that is there; the one in GOBLIN_URL even when it does not answer."""
    key = key_of_environment()
    if url := environment().get("GOBLIN_URL"):
        return Api(_checked(url), key=key)
    note = noted(settings)
    urls = [f"http://127.0.0.1:{settings.server.port}"] if settings.server.port else []
    for url in [*urls, note.url] if note else urls:
        api = Api(url, key=key)
        if api.health() is not None:
            return api
        api.close()
    return None


def _checked(url: str) -> str:
    try:
        is_address = urlsplit(url).scheme in ("http", "https") and bool(urlsplit(url).hostname)
    except ValueError:
        is_address = False
    if not is_address:
        raise ConfigError(f"GOBLIN_URL {url!r} is no address of an API: write it as in http://127.0.0.1:3001")
    return url


@contextmanager
def api() -> Iterator[Api]:
    """The API that is there. Unavailable, with the cure, when there is none."""
    found = find(load())
    if found is None:
        raise Unavailable("no API is running here: start one with `goblin up`, or set GOBLIN_URL")
    with found:
        yield found


def noted(settings: Settings) -> Note | None:
    """What runs over this home; None when nothing does."""
    try:
        note = Note(**json.loads((settings.home.expanduser() / NOTE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    with Api(note.url) as api:
        return note if api.health() is not None else None  # a note of one that was killed says nothing


@contextmanager
def note(home: Path, note: Note) -> Iterator[None]:
    """Leaves the note for as long as the block lasts; only this user can read it."""
    place = home / NOTE
    place.touch(mode=0o600)
    place.write_text(json.dumps(asdict(note)))
    try:
        yield
    finally:
        place.unlink(missing_ok=True)
