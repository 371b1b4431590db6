"""How this process keeps memory: chunks of a MiB come and go, and millions of values stay.

Owns the settings of the C library's allocator and of Python's collector of cycles. Does not
own what is allocated.

glibc gives pieces above a threshold back to the system at once, and asks for zeroed pages
again for the next chunk: 125,000 to 190,000 page faults for each GB that arrives, which
cost more than moving its bytes (ADR 23).
"""

import ctypes
import gc
from collections.abc import Callable
from typing import Any, Final

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

MAPPED_BYTES: Final = 8 << 20
"""Pieces above are still mapped on their own, and given back when they are freed."""
KEPT_BYTES: Final = 32 << 20
"""What may lie free at the end of a heap."""
STEP_BYTES: Final = 1 << 20
"""By how much more than is needed a heap grows."""
ARENAS: Final = 2
"""Heaps that all threads share: what one freed, another uses."""


def keep_freed() -> bool:
    """Let freed pieces of a few MiB be used again; tell whether the system lets us.

    For the whole process, so a program calls this and never a library.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False  # not glibc: macOS and Windows have allocators of their own
    settings = (
        (_M_MMAP_THRESHOLD, MAPPED_BYTES),
        (_M_TRIM_THRESHOLD, KEPT_BYTES),
        (_M_TOP_PAD, STEP_BYTES),
        (_M_ARENA_MAX, ARENAS),
    )
    return all(mallopt(option, value) == 1 for option, value in settings)


PASS_S: Final = 0.05
"""A full pass of the collector that takes longer is the last over what it left."""


def pass_once(clock: Callable[[], float]) -> Callable[[str, dict[str, Any]], None]:
    """Keep the collector of cycles from passing again over very much that stays.

    A node with a set of a million records holds tens of millions of objects, and each full
    pass over them stops all its threads for seconds. `clock` tells seconds. Returns what
    listens in `gc.callbacks`. For the whole process, so a program calls this.

    What a long pass left is not passed over any more: if cycles of it die later, they stay.
    There is as much again of new objects before the next pass takes so long.
    """
    began = 0.0

    def listen(phase: str, info: dict[str, Any]) -> None:
        nonlocal began
        if info["generation"] < 2:
            return
        if phase == "start":
            began = clock()
        elif clock() - began > PASS_S:
            gc.freeze()

    gc.callbacks.append(listen)
    return listen
