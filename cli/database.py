"""The database for commands that work on it directly: the configured one, that of a running `goblin up`, or the
embedded one, started for as long as it is needed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from cli import reach
from cli.embedded import Stack
from cli.migrate import upgrade
from goblin.settings import Settings


@contextmanager
def opened(settings: Settings) -> Iterator[str]:
    """The URL of a migrated database. Raises ConfigError or Unavailable, with the cure."""
    if settings.database_url is not None:
        url = settings.require_database_url()
        upgrade(url)
        yield url
    elif (noted := reach.noted(settings)) is not None:
        yield noted.database_url
    else:
        with Stack.start(settings.home, redis_url="unused") as stack:
            upgrade(stack.database_url)
            yield stack.database_url
