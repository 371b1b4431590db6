"""What the tensors of a merge stand on: the base, zeros, or nothing.

Owns which tensors a plan has, and what task vectors are added to in each. Does not own
tasks (`plan`), nor reading (`execute`).

A merge of task vectors alone (for an adapter) never reads the base: its tensors are those
that some contribution changes, standing on zeros. A tensor that all contributions give
whole can be merged without zeros, if the strategy needs no base.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from crdtmerge.changes import Change, Whole
from crdtmerge.errors import BadInputError
from crdtmerge.manifest import FLOAT_DTYPES, Manifest, TensorEntry
from crdtmerge.recipe import Recipe
from crdtmerge.strategies import Strategy, Values

Ground: TypeAlias = Literal["base", "zero", "none"]
"""What task vectors of a tensor are added to: the base's tensor; zeros, which gives the
merged task vector in F32; or nothing, where models are merged without a base."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One tensor of a merge: its description, and what it stands on.

    `entry` has the dtype that is computed in; its blob is the base's.
    """

    entry: TensorEntry
    ground: Ground

    @property
    def is_merged(self) -> bool:
        """Tell whether it is merged; others (indices, masks) are the base's own."""
        return self.entry.dtype in FLOAT_DTYPES


def lay_ground(
    recipe: Recipe,
    strategy: Strategy,
    base: Manifest,
    changes: Sequence[Mapping[str, Change]],
    ground: Ground,
) -> tuple[Frame, ...]:
    """Return the tensors of a merge, by name.

    Raises:
        BadInputError: the strategy cannot do without what `ground` does not give.
    """
    entries = sorted(base.tensors, key=lambda entry: entry.name)
    if ground == "zero":
        return tuple(
            _without_base(recipe, strategy, entry, [c.get(entry.name) for c in changes])
            for entry in entries
            if entry.dtype in FLOAT_DTYPES
            and any(entry.name in found for found in changes)
        )
    if ground == "none" and strategy.needs_base:
        message = f"{strategy.name} merges differences to a base, and none is given"
        raise BadInputError(message, hint="name the model that all were tuned from")
    return tuple(Frame(entry, ground) for entry in entries)


def _without_base(
    recipe: Recipe,
    strategy: Strategy,
    entry: TensorEntry,
    said: Sequence[Change | None],
) -> Frame:
    reads_base = strategy.needs_base or strategy.prefers_base
    if all(isinstance(change, Whole) for change in said) and not reads_base:
        return Frame(entry, "none")
    hint = "resolve the whole model instead, without --as adapter"
    if any(isinstance(change, Whole) for change in said):
        message = (
            f"tensor {entry.name!r} is given whole by a contribution: its difference"
            " to the base cannot be told without reading the base"
        )
        raise BadInputError(message, hint=hint)
    if not strategy.shifts(Values(recipe.parameters_for(entry.name))):
        message = f"{strategy.name} as set merges whole weights, not differences"
        raise BadInputError(message, hint=hint)
    return Frame(replace(entry, dtype="F32"), "zero")
