"""The kinds of record: what each says, in its one canonical form.

Owns the table of kinds, and which of them are critical. Does not own the frame around a
body, ids or signatures (`record`), nor who may say what (`policy`).
"""

from typing import Final

from crdtmerge.bodies.contents import (
    NOTE_CHARACTERS_MAX,
    Add,
    RecipeChange,
    Remove,
)
from crdtmerge.bodies.forms import (
    IDS_MAX,
    NAME_CHARACTERS_MAX,
    WEIGHT_UNITS_MAX,
    RecordId,
    SpaceId,
    not_a,
    require,
)
from crdtmerge.bodies.founding import (
    ADDRESSES_MAX,
    NONCE_BYTES,
    OWNERS_MAX,
    Genesis,
    NodeAddress,
    Unknown,
    is_address,
)
from crdtmerge.bodies.rights import (
    RANKS,
    Approve,
    Ban,
    Grant,
    Lift,
    Revoke,
    Successor,
    check_consent,
    give_consent,
)
from crdtmerge.faults import Fault
from crdtmerge.forks import Fork

__all__ = [
    "ADDRESSES_MAX",
    "BODIES",
    "CRITICAL",
    "IDS_MAX",
    "NAME_CHARACTERS_MAX",
    "NONCE_BYTES",
    "NOTE_CHARACTERS_MAX",
    "OWNERS_MAX",
    "RANKS",
    "WEIGHT_UNITS_MAX",
    "Add",
    "Approve",
    "Ban",
    "Body",
    "Fault",
    "Fork",
    "Genesis",
    "Grant",
    "Lift",
    "NodeAddress",
    "RecipeChange",
    "RecordId",
    "Remove",
    "Revoke",
    "SpaceId",
    "Successor",
    "Unknown",
    "check_consent",
    "give_consent",
    "is_address",
    "not_a",
    "require",
]

Body = (
    Genesis
    | Add
    | Remove
    | RecipeChange
    | Grant
    | Revoke
    | Ban
    | Lift
    | Approve
    | Successor
    | NodeAddress
    | Fault
    | Fork
    | Unknown
)

BODIES: Final = {
    body.KIND: body
    for body in (
        Genesis,
        Add,
        Remove,
        RecipeChange,
        Grant,
        Revoke,
        Ban,
        Lift,
        Approve,
        Successor,
        NodeAddress,
        Fault,
        Fork,
    )
}
CRITICAL: Final = frozenset({Fault.KIND, Fork.KIND, Approve.KIND, Successor.KIND})
"""Kinds whose critical flag is set, and of no other known one: a version that does not know
them must not merge on without their effect."""
