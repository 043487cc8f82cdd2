"""The door to Redis (or Valkey): clients with bounded pools and short waits; vendor errors turned into ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
import redis.asyncio

from goblin.errors import Unavailable


def connect(url: str, *, connections: int = 50) -> redis.Redis:
    """A client for short commands from many threads, which wait for a connection when all are in use: a new one costs
    five round trips, and hundreds of threads that begin at once would make hundreds. Connects on first use.
    """
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=5,
        socket_timeout=5,
        socket_connect_timeout=2,
        health_check_interval=30,
        decode_responses=True,
    )
    return redis.Redis.from_pool(pool)


def connect_async(url: str, *, connections: int = 1_000) -> redis.asyncio.Redis:
    """A client for the API, whose readers block for seconds: no socket timeout beyond theirs."""
    return redis.asyncio.Redis.from_url(
        url, max_connections=connections, socket_timeout=60, socket_connect_timeout=2, decode_responses=True
    )


@contextmanager
def outages() -> Iterator[None]:
    """Raise Unavailable for any failure to reach or use Redis inside the block."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise Unavailable("Redis cannot be reached", retry_after=2) from error
