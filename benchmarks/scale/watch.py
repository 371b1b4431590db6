"""How long parts of one process took, and what memory it had then. Owns the clock alone."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Watch:
    """Times since it was made, in seconds of the wall and of the processor."""

    def __init__(self) -> None:
        """Begin."""
        self.facts: dict[str, Any] = {}
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def after(self, name: str, work: Callable[[], object]) -> None:
        """Do something, and note what it took, and what memory the process has now."""
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.facts[name] = {
            "seconds": round(time.perf_counter() - wall, 4),
            "processor_seconds": round(time.process_time() - cpu, 4),
            "since_start_seconds": round(time.perf_counter() - self._wall, 4),
            "peak_mib": _peak_mib(),
        }


def _peak_mib() -> int:
    """Return the most memory that this process had: that of its parent is not in it."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) >> 10
