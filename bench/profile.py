"""Where a worker's time goes: `python -m bench.profile [FILE.svg]` samples one while it runs no-op flows.

Needs py-spy (`pip install py-spy`), which looks from outside: the worker is the one that users run.
"""

import signal
import subprocess
import sys
from pathlib import Path

from bench.ground import Ground
from bench.noop_flow import WARM, goblin

RUNS, PER_SECOND = 500, 200


def main(file: Path) -> None:
    with Ground.prepared() as ground, goblin(ground) as up:
        for _ in range(WARM):
            up.submit()
        up.wait()
        argv = ["py-spy", "record", "--gil", "--rate", str(PER_SECOND), "--duration", "3600"]
        sampler = subprocess.Popen([*argv, "--output", str(file), "--pid", str(up.worker)], stderr=subprocess.DEVNULL)
        for _ in range(RUNS):
            up.submit()
        up.wait()
        sampler.send_signal(signal.SIGINT)
        sampler.wait()
    print(f"written to {file}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "worker.svg"))
