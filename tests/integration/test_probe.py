"""The scheduler looks at the providers when it starts: what is wrong is known before a step is spent on it."""

import time
from pathlib import Path

from routing.health import Health
from tests.processes import Processes
from tests.world import Sim, world

SELDOM = "[routing]\nhealth_check_interval = 3600\n"


def test_a_wrong_key_is_known_before_anybody_asks(
    processes: Processes, database: str, redis_url: str, tmp_path: Path
) -> None:
    with world(processes, tmp_path, database, redis_url, Sim("groq"), Sim("mistral"), extra=SELDOM) as place:
        place.sim_post("faults", {"name": "groq", "directives": "+auth"})
        place.start_scheduler()
        place.until(lambda: Health(place.redis).snapshot().resting(time.time()))
        assert Health(place.redis).snapshot().resting(time.time()).keys() == {"groq"}
