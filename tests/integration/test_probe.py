"""A wrong key is known before a step is spent on it; one that was mended or replaced, long before its rest is over."""

import time
from pathlib import Path

from routing.health import Health
from tests.processes import Processes
from tests.world import Sim, world

SELDOM, OFTEN = (f"[routing]\nhealth_check_interval = {seconds}\n" for seconds in (3600, 1))


def test_a_wrong_key_is_known_before_anybody_asks(
    processes: Processes, database: str, redis_url: str, tmp_path: Path
) -> None:
    with world(processes, tmp_path, database, redis_url, Sim("groq"), Sim("mistral"), extra=SELDOM) as place:
        place.sim_post("faults", {"name": "groq", "directives": "+auth"})
        place.start_scheduler()
        place.until(lambda: Health(place.redis).snapshot().resting(time.time()))
        assert Health(place.redis).snapshot().resting(time.time()).keys() == {"groq"}


def test_a_key_that_is_mended_at_its_vendor_is_found_by_the_next_check(
    processes: Processes, database: str, redis_url: str, tmp_path: Path
) -> None:
    with world(processes, tmp_path, database, redis_url, Sim("groq"), extra=OFTEN) as place:
        place.sim_post("faults", {"name": "groq", "directives": "+auth"})
        place.start_scheduler()
        place.until(lambda: Health(place.redis).snapshot().resting(time.time()))
        place.sim_post("faults", {"name": "groq", "directives": ""})
        place.until(lambda: not Health(place.redis).snapshot().resting(time.time()))


def test_another_key_is_tried_at_once(processes: Processes, database: str, redis_url: str, tmp_path: Path) -> None:
    with world(processes, tmp_path, database, redis_url, Sim("groq"), extra=SELDOM) as place:
        place.sim_post("faults", {"name": "groq", "directives": "+auth"})
        old = place.start_worker("old")
        first = place.submit(place.plan("chat@groq: hello"))
        assert place.finished(first).status == "failed"
        place.sim_post("faults", {"name": "groq", "directives": ""})
        second = place.submit(place.plan("chat@groq: hello"))
        assert place.finished(second).status == "failed"
        assert place.all("select 1 from attempts where run_id = %s", second) == []
        old.teardown()
        config = tmp_path / "new.toml"
        config.write_text(Path(place.env["GOBLIN_CONFIG"]).read_text().replace('api_key = "test"', 'api_key = "new"'))
        place.start_worker("new", env={**place.env, "GOBLIN_CONFIG": str(config)})
        third = place.submit(place.plan("chat@groq: hello"))
        assert place.finished(third).status == "succeeded"
