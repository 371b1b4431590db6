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
from crdtmerge.bodies.epochs import Epoch, Link, Run, runs_of
from crdtmerge.bodies.evaluations import (
    SCORE_LABEL_FORM,
    SUBJECTS,
    Evaluation,
    is_score_label,
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
    "SCORE_LABEL_FORM",
    "SUBJECTS",
    "WEIGHT_UNITS_MAX",
    "Add",
    "Approve",
    "Ban",
    "Body",
    "Epoch",
    "Evaluation",
    "Fault",
    "Fork",
    "Genesis",
    "Grant",
    "Lift",
    "Link",
    "NodeAddress",
    "RecipeChange",
    "RecordId",
    "Remove",
    "Revoke",
    "Run",
    "SpaceId",
    "Successor",
    "Unknown",
    "check_consent",
    "give_consent",
    "is_address",
    "is_score_label",
    "not_a",
    "require",
    "runs_of",
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
    | Epoch
    | Evaluation
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
        Epoch,
        Evaluation,
    )
}
CRITICAL: Final = frozenset(
    {Fault.KIND, Fork.KIND, Approve.KIND, Successor.KIND, Epoch.KIND}
)
"""Kinds whose critical flag is set, and of no other known one: a version that does not know
them must not merge on without their effect."""
