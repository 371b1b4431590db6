"""What can be found of a contribution, as values.

Owns the names of findings and how severe each is. Does not own from where on a figure
is a finding (`judging`), nor the sentences that people read.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from crdtmerge.digest import ContentId
from crdtmerge.scrutiny.standing import Standing

Name: TypeAlias = Literal[
    "faulty",
    "far",
    "flipped",
    "apart",
    "copy",
    "shares",
    "concentrated",
    "permuted",
    "rescaled",
    "rotated",
    "locked",
]
Severity: TypeAlias = Literal["notice", "warning"]

NAMES: Final[Mapping[Name, str]] = {
    "faulty": "its values cannot be merged",
    "far": "its task vector is many times as long as the others'",
    "flipped": "its task vector points against the others'",
    "apart": "its task vector has nothing in common with the others', which agree",
    "copy": "its task vector is a multiple of another's",
    "shares": "some of its changed tensors are another's, byte for byte",
    "concentrated": "its task vector lies in few directions, unlike the others'",
    "permuted": "rows or columns are others of the base's",
    "rescaled": "rows or columns are multiples of the base's",
    "rotated": "rows or columns were turned into one another, as by an orthogonal matrix",
    "locked": "two matrices are far from the base's, their product is not",
}
"""Every finding, by its name: what it says."""


WHERE_MAX: Final = 64
"""Tensors or layers that one finding names."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that stands out: what, how much of it, where, and against whom.

    `where` names tensors or layers, none for the model as a whole.
    """

    name: Name
    severity: Severity
    figures: Mapping[str, float]
    where: tuple[str, ...] = ()
    against: ContentId | None = None


def named(found: Iterable[str]) -> tuple[str, ...]:
    """Return the names that a finding says."""
    return tuple(found)[:WHERE_MAX]


@dataclass(frozen=True, slots=True)
class Nearest:
    """The other contribution whose task vector is most nearly a multiple of one's own."""

    content: ContentId
    cosine: float
    factor: float


@dataclass(frozen=True, slots=True)
class Report:
    """What is to be said of one contribution, over the model and by layer."""

    content: ContentId
    standing: Standing
    layers: Mapping[str, Standing] = field(default_factory=dict)
    nearest: Nearest | None = None
    concentration: float | None = None
    findings: tuple[Finding, ...] = ()
