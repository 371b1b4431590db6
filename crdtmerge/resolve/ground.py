"""What the tensors of a merge stand on: the base, zeros, or nothing.

Owns which tensors a plan has, and what task vectors are added to in each. Does not own
tasks (`plan`), nor reading (`execute`).

A merge of task vectors alone (for an adapter) never reads the base: its tensors are those
that some contribution changes, standing on zeros. A tensor that all contributions give
whole can be merged without zeros, if the strategy needs no base.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from crdtmerge.changes import Change, Whole
from crdtmerge.digest import ContentId
from crdtmerge.errors import BadInputError
from crdtmerge.manifest import FLOAT_DTYPES, Manifest, TensorEntry
from crdtmerge.numerics import holding
from crdtmerge.resolve.settings import Settings
from crdtmerge.strategies import Strategy, Values

Ground: TypeAlias = Literal["base", "zero", "none"]
"""What task vectors of a tensor are added to: the base's tensor; zeros, which gives the
merged task vector in F32; or nothing, where models are merged without a base."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One tensor of a merge: its description, and what it stands on.

    `entry` has the dtype of the output, unless the recipe gives another, and of the grid:
    the base's, or without a base the smallest that holds the items of all. What is given
    in another is read as it is. Its blob is the base's. `exponent` is that
    of the base's tensor where the base is not read, None where the inputs tell.
    """

    entry: TensorEntry
    ground: Ground
    exponent: int | None = None

    @property
    def is_merged(self) -> bool:
        """Tell whether it is merged; others (indices, masks) are the base's own."""
        return self.entry.dtype in FLOAT_DTYPES


@dataclass(frozen=True, slots=True)
class Footing:
    """What a whole merge stands on.

    `exponents` are those of the base's tensors, by name, for a merge that must know the
    base's grid without reading it; empty where the inputs' own largest will do.
    """

    ground: Ground = "base"
    exponents: Mapping[str, int] = field(default_factory=dict)


ON_BASE: Final = Footing()


def lay_ground(
    settings: Settings,
    strategy: Strategy,
    base: Manifest,
    changes: Sequence[tuple[ContentId, Mapping[str, Change]]],
    footing: Footing,
) -> tuple[Frame, ...]:
    """Return the tensors of a merge, by name; `changes` are those of each contribution.

    Raises:
        BadInputError: the strategy cannot do without what `footing` does not give.
    """
    entries = sorted(base.tensors, key=lambda entry: entry.name)
    if footing.ground == "zero":
        return tuple(
            _without_base(settings, strategy, entry, changes, footing)
            for entry in entries
            if entry.dtype in FLOAT_DTYPES
            and any(entry.name in found for _, found in changes)
        )
    needs_base = strategy.needs_base or _steps(settings)
    if footing.ground == "none" and needs_base:
        who = strategy.name if strategy.needs_base else "a recipe with steps"
        message = f"{who} merges differences to a base, and none is given"
        raise BadInputError(message, hint="name the model that all were tuned from")
    if footing.ground == "none":
        return tuple(_among_models(entry, changes) for entry in entries)
    return tuple(Frame(entry, footing.ground) for entry in entries)


def _among_models(
    entry: TensorEntry, changes: Sequence[tuple[ContentId, Mapping[str, Change]]]
) -> Frame:
    """Return the frame of a tensor that no base gives: all models must have it.

    Raises:
        BadInputError: one lacks it.
    """
    given = [found.get(entry.name) for _, found in changes]
    if None in given:
        message = f"tensor {entry.name!r} is not in every model"
        hint = "name a base_model, from which it can be taken as it is"
        raise BadInputError(message, hint=hint)
    if entry.dtype not in FLOAT_DTYPES:
        return Frame(entry, "none")
    dtype = holding(c.entry.dtype for c in given if isinstance(c, Whole))
    return Frame(replace(entry, dtype=dtype), "none")


def _steps(settings: Settings) -> bool:
    """Tell whether task vectors pass through steps, whatever the strategy takes."""
    return bool(settings.recipe.pre or settings.recipe.post)


def _without_base(
    settings: Settings,
    strategy: Strategy,
    entry: TensorEntry,
    changes: Sequence[tuple[ContentId, Mapping[str, Change]]],
    footing: Footing,
) -> Frame:
    exponent = footing.exponents.get(entry.name)
    reads_base = strategy.needs_base or strategy.prefers_base or _steps(settings)
    whole = [c for c, found in changes if isinstance(found.get(entry.name), Whole)]
    if len(whole) == len(changes) and not reads_base:
        return Frame(entry, "none", exponent)
    hint = "resolve the whole model instead, without --as adapter"
    if whole:
        message = (
            f"contribution {whole[0].hex()[:12]} gives tensor {entry.name!r} whole: its"
            " difference to the base cannot be told without reading the base"
        )
        raise BadInputError(message, hint=f"{hint}, or leave it out with --without")
    if not strategy.shifts(Values(settings.of_tensor(entry.name).parameters)):
        message = f"{strategy.name} as set looks at whole weights, not at changes alone"
        raise BadInputError(message, hint=hint)
    return Frame(replace(entry, dtype="F32"), "zero", exponent)
