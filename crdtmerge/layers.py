"""How layers keep their weights, as far as the shapes of a base tell.

Owns the inference. Does not own what follows from it (`changes`, `formats.adapter`). Most
layers keep (out, in); some (GPT-2's) keep (in, out), and one model may have both. A bias
has as many items as there are outputs, so it tells of every weight that is not square;
of a square one its nearest relatives tell: those that share the longest part of its name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from crdtmerge.manifest import Manifest

LINEAR = "linear"
FAN_IN = "fan_in"

_WEIGHT = ".weight"


@dataclass(frozen=True, slots=True)
class Layers:
    """What is known of a base's layers: `linear` or `fan_in` by the weight's name."""

    known: Mapping[str, str]

    def of(self, name: str) -> str | None:
        """Return how the layer of this weight keeps it; None if nothing tells."""
        return self.known.get(name)

    def like(self, name: str) -> str | None:
        """Return how the nearest relatives of a square weight are kept.

        None if nothing is known, or they disagree.
        """
        parts = name.split(".")
        near = {other: _shared(parts, other.split(".")) for other in self.known}
        most = max(near.values(), default=0)
        kinds = {self.known[other] for other, shared in near.items() if shared == most}
        return kinds.pop() if len(kinds) == 1 else None


def layers_of(base: Manifest, said: Iterable[tuple[str, str]] = ()) -> Layers:
    """Return what the biases of `base` tell, and what is `said` of other weights."""
    shapes = {entry.name: entry.shape for entry in base.tensors}
    known = dict(said)
    for name, shape in shapes.items():
        bias = shapes.get(name.removesuffix(_WEIGHT) + ".bias")
        if not name.endswith(_WEIGHT) or len(shape) != 2 or shape[0] == shape[1]:
            continue
        if bias in {(shape[0],), (shape[1],)}:
            known[name] = LINEAR if bias == (shape[0],) else FAN_IN
    return Layers(known)


def _shared(one: list[str], other: list[str]) -> int:
    """Count the leading parts that two names share."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
