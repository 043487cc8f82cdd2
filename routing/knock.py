"""How often an API key may submit: a rolling minute in Redis. Money and providers are guarded call by call."""

import secrets
import uuid

import redis

from goblin.errors import RateLimited, Unavailable
from goblin.kv import outages
from routing.script import PREFIX, source


class Knocks:
    def __init__(self, client: redis.Redis) -> None:
        self._script = client.register_script(source("knock"))

    def knock(self, key: uuid.UUID | None, limit: int | None) -> None:
        """Count a submission of a key that may make `limit` in any minute. Raises RateLimited with the seconds to wait.

        Without a key, a limit or Redis nobody is refused: a submission costs nothing before it is admitted.
        """
        if key is None or limit is None:
            return
        try:
            with outages():
                wait_ms = self._script(keys=[f"{PREFIX}:knocks:{key.hex}"], args=[limit, secrets.token_hex(8)])
        except Unavailable:
            return
        if wait_ms:
            raise RateLimited(
                f"this API key may submit {limit} times a minute",
                retry_after=int(wait_ms) / 1000,
            )
