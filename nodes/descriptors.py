"""How many files and connections this process may have open.

Owns raising that limit for a node, which holds a connection or two for each peer. Many
systems start programs with 1,024, and let them ask for far more. Does not own the limits of
connections (`listening`).
"""

import contextlib
from typing import Final

DESCRIPTORS: Final = 8192
"""What a node asks for: two full ports, and as many files again."""


def raise_limit() -> int:
    """Raise the limit to `DESCRIPTORS`, or as far as the system lets us; return it.

    On Windows there is none, and 0 is returned.
    """
    try:
        import resource
    except ImportError:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft not in {resource.RLIM_INFINITY, wanted} and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
