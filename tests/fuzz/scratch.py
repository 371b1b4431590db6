"""Where files lie that a decoder is to read: one folder a process, written over each time.

Owns the folder, and nothing of what is in it.
"""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")
SCRATCH: Final = _MEMORY if _MEMORY.is_dir() else Path(tempfile.gettempdir())
"""In memory where the system has such a place."""


@cache
def scratch() -> Path:
    """Return the folder of this process; its number stands in the name."""
    made = tempfile.mkdtemp(prefix=f"crdtmerge-fuzz-{os.getpid()}-", dir=SCRATCH)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def written(name: str, data: bytes) -> Path:
    """Return the path of a file that holds `data`."""
    path = scratch() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path
