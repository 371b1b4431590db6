"""Members that lie: what a hostile machine does, kind by kind.

`liar` stands between the node of such a machine and all others: its frames cross the same
network, in the same form. `forging`, `splitting`, `replaying`, `claims`, `stalling`,
`flooding` and `eclipsing` are the kinds 34 to 40 of the catalogue. Who lies, and when, is
in `weather.members`; what honest nodes must still hold to is in `checkers` and `bounds`.
"""

import random
from collections.abc import Callable, Mapping
from typing import Final

from .claims import lie_size
from .eclipsing import eclipse
from .flooding import flood
from .forging import forge
from .liar import Liar
from .replaying import replay
from .splitting import equivocate
from .stalling import stall

__all__ = ["LIES", "Liar"]

LIES: Final[Mapping[str, Callable[[Liar, random.Random], bool]]] = {
    "forge": forge,
    "equivocate": equivocate,
    "replay": replay,
    "lie_size": lie_size,
    "stall": stall,
    "flood": flood,
    "eclipse": eclipse,
}
"""What each kind does, and whether it could: without a link there is nobody to lie to."""
