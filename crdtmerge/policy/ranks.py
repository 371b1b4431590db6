"""Ranks and what they allow: owner > maintainer > contributor > reader.

Owns the ranks, the limits that come with them, and which rank each kind of record needs.
Does not own who has which rank (`admissible`, `standing`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from crdtmerge.bodies import (
    WEIGHT_UNITS_MAX,
    Add,
    Approve,
    Ban,
    Epoch,
    Evaluation,
    Grant,
    Lift,
    NodeAddress,
    RecipeChange,
    Remove,
    Revoke,
    Successor,
    Unknown,
)
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BLOB_BYTES_MAX
from crdtmerge.faults import Fault
from crdtmerge.forks import Fork

WEIGHT_CAP_DEFAULT: Final = DECIMAL_UNIT
RECORDS_MAX_DEFAULT: Final = 1_000_000
BYTES_MAX_DEFAULT: Final = BLOB_BYTES_MAX


class Rank(IntEnum):
    """What an author may do; the numbers stand in grants."""

    READER = 0
    CONTRIBUTOR = 1
    MAINTAINER = 2
    OWNER = 3


@dataclass(frozen=True, slots=True)
class Authority:
    """What the grant named by a record gives its author: a rank, with limits."""

    rank: Rank
    weight_cap: int
    records_max: int
    bytes_max: int

    @property
    def measure(self) -> tuple[int, int, int, int]:
        """What grants are compared by: the rank, then weight, bytes and records."""
        return self.rank, self.weight_cap, self.bytes_max, self.records_max

    def covers(self, grant: Grant) -> bool:
        """Tell whether `grant` gives no more than this: a cap could be shed otherwise.

        Its holder would grant a second key of its own what its first key may not do.
        """
        return (
            grant.rank < self.rank
            and grant.weight_cap <= self.weight_cap
            and grant.records_max <= self.records_max
            and grant.bytes_max <= self.bytes_max
        )


OWNER: Final = Authority(Rank.OWNER, WEIGHT_UNITS_MAX, 2**63, BLOB_BYTES_MAX)
OPEN: Final = Authority(
    Rank.CONTRIBUTOR, WEIGHT_CAP_DEFAULT, RECORDS_MAX_DEFAULT, BYTES_MAX_DEFAULT
)

NEEDED: Final[Mapping[type, Rank]] = {
    Add: Rank.CONTRIBUTOR,
    Remove: Rank.CONTRIBUTOR,
    RecipeChange: Rank.MAINTAINER,
    Grant: Rank.MAINTAINER,
    Revoke: Rank.MAINTAINER,
    Ban: Rank.MAINTAINER,
    Lift: Rank.MAINTAINER,
    NodeAddress: Rank.READER,
    Approve: Rank.OWNER,
    Successor: Rank.READER,
    Fault: Rank.READER,
    Fork: Rank.READER,
    Epoch: Rank.OWNER,
    Evaluation: Rank.READER,
    Unknown: Rank.READER,
}
"""The rank that each kind needs; what it may act on is decided in `standing`."""
