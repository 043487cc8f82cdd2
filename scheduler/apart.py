"""Work on one of many that must not stand in the way of the others."""

from collections.abc import Callable

import structlog

from goblin.errors import Unavailable
from goblin.log import crash

_log = structlog.get_logger()


def apart(event: str, act: Callable[[], None], **ids: str) -> bool:
    """False when something failed that nobody expected; `event` and `ids` are for the log. Raises Unavailable: then it
    is not about this one."""
    try:
        act()
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001
        _log.error(event, **ids, **crash(error))
        return False
    return True
