"""What many simulated machines compute alike, computed once.

Owns which functions of the core are remembered while a run lasts: such that depend on
their arguments alone. Real machines each do their own work; a hundred of them in one
process would verify one signature a hundred times. Does not own these functions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from crdtmerge import identity, record

RECORDS_MAX: Final = 20_000
SIGNATURES_MAX: Final = 20_000

_decoded: Final = lru_cache(RECORDS_MAX)(record._decoded)
_check: Final = lru_cache(SIGNATURES_MAX)(identity._check)


@contextmanager
def remembering() -> Iterator[None]:
    """Remember records that were decoded and signatures that hold, for as long as it lasts.

    What raises is not remembered: who forges is looked at each time.
    """
    before = record._decoded, identity._check
    record._decoded, identity._check = _decoded, _check
    try:
        yield
    finally:
        record._decoded, identity._check = before
        _decoded.cache_clear()
        _check.cache_clear()
