"""Answers that no vendor should give, on their way through a worker, the ledger and a batch to whoever asked."""

from pathlib import Path

from ledger.states import BatchStatus
from tests.fakes.lines import begin, completion, is_over, read
from tests.fakes.said import DONE, delta, sse
from tests.fakes.vendor import END, Connection, Vendor
from tests.processes import Processes
from tests.world import world
from workers.app import BATCH, STEPS, provider_queue

EXTRA = """
[worker]
lease = 3
[routing]
health_check_interval = 600
[providers.stray]
dialect = "openai"
base_url = "{url}"
api_key = "test"
models = [{{ id = "looker", input_usd_mtok = "0.15", output_usd_mtok = "0.60", context = 100000 }}]
"""


def call_nothing(connection: Connection) -> None:
    """Says that it calls a tool, and calls none."""
    while connection.request():
        connection.stream(sse(delta(content="Let me look."), delta("tool_calls"), end=DONE))
        connection.send(END)


def test_an_answer_that_calls_nothing_and_says_so_does_not_hold_up_its_batch(
    processes: Processes, database: str, redis_url: str, tmp_path: Path
) -> None:
    with (
        Vendor(*[call_nothing] * 8) as vendor,
        world(processes, tmp_path, database, redis_url, extra=EXTRA.format(url=vendor.url)) as place,
    ):
        place.start_worker(queues=(STEPS, provider_queue("stray"), BATCH))
        place.start_scheduler()
        batch = begin(place.ledger, [completion("a", model="looker")])
        end = place.until(lambda: is_over(place.ledger, batch))
        (line,) = read(place.ledger, end.output_file_id)
    assert end.status is BatchStatus.COMPLETED
    (choice,) = line["response"]["body"]["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "Let me look.")
