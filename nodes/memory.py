"""How this process keeps memory that was freed: chunks of a MiB come and go all the time.

Owns the settings of the C library's allocator. Does not own what is allocated.

glibc gives pieces above a threshold back to the system at once, and asks for zeroed pages
again for the next chunk: 125,000 to 190,000 page faults for each GB that arrives, which
cost more than moving its bytes (ADR 23).
"""

import ctypes
from typing import Final

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
