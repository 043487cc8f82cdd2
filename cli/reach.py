"""Finding the API that commands talk to: GOBLIN_URL, else the usual port, else the one that `goblin up` has noted."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.client import Api, key_of_environment
from goblin.settings import Settings, load

NOTE = "url"  # the file in GOBLIN_HOME that says where the running API is


@dataclass(frozen=True, slots=True)
class Reached:
    """An API, and whether it ends with this command."""

    api: Api
    is_ours: bool = False


def find(settings: Settings) -> Api | None:
    """The API that is there; the one in GOBLIN_URL even when it does not answer."""
    key = key_of_environment()
    if url := os.environ.get("GOBLIN_URL"):
        return Api(url, key=key)
    noted = settings.home.expanduser() / NOTE
    urls = [f"http://127.0.0.1:{settings.server.port}"] if settings.server.port else []
    urls += [noted.read_text().strip()] if noted.is_file() else []
    for url in urls:
        api = Api(url, key=key)
        if api.health() is not None:
            return api
        api.close()
    return None


@contextmanager
def api() -> Iterator[Api]:
    """The API that is there. Unavailable, with the cure, when there is none."""
    settings = load()
    found = find(settings) or Api(f"http://127.0.0.1:{settings.server.port}")
    with found:
        yield found


@contextmanager
def note(home: Path, url: str) -> Iterator[None]:
    """Lets commands find an API on an unusual port for as long as the block lasts."""
    place = home / NOTE
    place.write_text(url + "\n")
    try:
        yield
    finally:
        place.unlink(missing_ok=True)
