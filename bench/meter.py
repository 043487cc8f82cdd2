"""CPU of whole process trees, so that nothing a contender makes others do is free."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil


@dataclass(slots=True)
class Cpu:
    """Seconds of CPU, by who spent them."""

    client: float = 0.0
    worker: float = 0.0
    redis: float = 0.0
    postgres: float = 0.0

    def per(self, count: int) -> dict[str, float]:
        """Milliseconds for each of so many, and of `all` together."""
        parts = {name: 1e3 * seconds / count for name, seconds in asdict(self).items()}
        return {**parts, "all": sum(parts.values())}


@contextmanager
def metered(trees: Mapping[str, int]) -> Iterator[Cpu]:
    """Adds to the yielded value what the trees (part -> process id) spend inside the block."""
    cpu = Cpu()
    before = {part: spent(pid) for part, pid in trees.items()}
    yield cpu
    for part, pid in trees.items():
        setattr(cpu, part, getattr(cpu, part) + spent(pid) - before[part])


def spent(pid: int) -> float:
    """Seconds of CPU of a process and all its descendants, those included that have ended."""
    seconds = 0.0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def resident(pid: int) -> float:
    """MiB."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20


def peak(pid: int) -> float:
    """MiB that it has held at most, as Linux counts."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
