"""One command from start to exit: wall time, processor time, and its own memory.

Owns the measuring. Does not own which commands there are. Anonymous memory is what a
process must have: mapped files do not count, their pages are the system's to take back.
"""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.01


@dataclass(frozen=True)
class Ran:
    """What a command took: seconds of wall and processors, bytes of anonymous memory."""

    wall_s: float
    cpu_s: float
    anonymous: int


def run(command: list[str], folder: Path) -> Ran:
    """Run a command to its end in `folder`.

    Raises:
        RuntimeError: it failed; the message has the end of what it said.
    """
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    log = folder / "command.log"
    start = time.perf_counter()
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=said, stderr=said
        )
        status, peak = Path(f"/proc/{process.pid}/status"), 0
        while True:
            ended, code, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak = max(peak, _anonymous(status))
            time.sleep(POLL_S)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(code)
    if process.returncode:
        end = log.read_text(errors="replace")[-600:]
        message = f"{command[0]} failed with {process.returncode}: {end}"
        raise RuntimeError(message)
    return Ran(wall, usage.ru_utime + usage.ru_stime, peak)


def _anonymous(status: Path) -> int:
    """Return the anonymous bytes of a process now; 0 where the system does not say."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(found[0]) * 1024 if found else 0
