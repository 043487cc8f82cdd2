"""The flow 1 → 2 side by side → 1 on DBOS: `python -m bench.dbos_worker` with DBOS_URL in the environment."""

import asyncio
import os
import threading

from dbos import DBOS

QUEUE, VERSION = "bench", "1"

if __name__ == "__main__":
    DBOS(
        config={
            "name": "bench",
            "system_database_url": os.environ["DBOS_URL"],
            "executor_id": "worker",
            "application_version": VERSION,
        }
    )

    @DBOS.step()
    async def noop(value: int) -> int:
        return value

    @DBOS.workflow(name="flow")
    async def flow(value: int) -> int:
        first = await noop(value)
        left, right = await asyncio.gather(noop(first), noop(first))
        total: int = await noop(left + right)
        return total

    DBOS.launch()
    DBOS.register_queue(QUEUE, worker_concurrency=100, polling_interval_sec=0.05)
    print("takes work", flush=True)
    threading.Event().wait()
