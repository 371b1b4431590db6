"""What a home attests: the model of a whole resolve of a space, as the space has it.

Owns which resolves count, the counter, and what is said of the machine. Does not own the
file (`store.attested`), nor the signature (`nodes.witness`).

An exploration (`--strategy`, `--without`, another I/O budget) is of a state that nobody
else resolves, and an adapter is no whole model: neither takes the place of what was
attested before.
"""

import platform
from contextlib import suppress
from typing import Final

from crdtmerge import __version__
from crdtmerge.bodies import SpaceId
from crdtmerge.errors import LocalError
from crdtmerge.numerics import backends
from crdtmerge.resolve.resolution import Resolution
from crdtmerge.sync.attestations import (
    COUNTER_MAX,
    PLATFORM_CHARACTERS_MAX,
    is_platform,
)

from ..store.attested import AttestedFiles, Made
from .live import Context

_UNIQUE_BYTES: Final = 8


def attest(context: Context, space: SpaceId, resolution: Resolution) -> bool:
    """Attest a model from now on; tell whether that could be kept: else it does no harm."""
    files = AttestedFiles(context.home.path)
    made = Made(
        _counter(context, files.load(space)),
        resolution.merge_id,
        resolution.contract,
        platform_text(),
        resolution.tensors,
    )
    with suppress(LocalError):
        files.keep(space, made, context.entropy(_UNIQUE_BYTES))
        return True
    return False


def _counter(context: Context, before: Made | None) -> int:
    """Return a number above all that this node has used: peers take the largest.

    The clock carries it over the loss of the file, or of the whole home.
    """
    last = before.counter if before else 0
    return min(max(last + 1, int(context.clock() * 1000)), COUNTER_MAX)


def platform_text() -> str:
    """Return what computes here, for people who look for a difference."""
    said = (
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()},"
        f" crdtmerge {__version__}, {backends.chosen()}"
    )[:PLATFORM_CHARACTERS_MAX]
    return said if is_platform(said) else "unknown"
