"""What a contribution's manifest says of each tensor of its base.

Owns the three kinds of contribution and their fit with the base: `full` gives every
tensor whole, `delta` gives task vectors of some, `lora` gives pairs of factors (and some
tensors whole, as adapters do with heads and biases); and what a task vector given in
another form is. What a contribution does not mention it leaves as it is in the base; a
`full` one must mention all, unless the recipe says `missing: base`. Does not own
arithmetic (`numerics`), nor how adapters are named on disk (`formats`).

Names in a manifest of kind `lora`: a pair for the base's tensor T is `T.lora_A`,
`T.lora_B` and the F64 scalar `T.lora_scale`; its task vector is scale * B @ A, in the
shape of T. Where a layer keeps its weight as (in, out), the factors' names end in
`.lora_fan_in_A`/`_B`, and for an embedding in `.lora_embedding_A`/`_B`: there it is
scale * (B @ A) transposed. The names are those under which PEFT tells these layers apart.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from crdtmerge.codec import Value
from crdtmerge.digest import BlobId
from crdtmerge.errors import BadInputError, ContractError
from crdtmerge.manifest import FLOAT_DTYPES, Manifest, TensorEntry
from crdtmerge.numerics import (
    Data,
    Floats,
    Singles,
    given_task_vector,
    inspect,
    low_rank,
    upcast,
)
from crdtmerge.recipe import MISSING_CHOICES

SCALE_SUFFIX: Final = ".lora_scale"
PAIR_SUFFIXES: Final[Mapping[str, tuple[str, str]]] = {
    "linear": (".lora_A", ".lora_B"),
    "fan_in": (".lora_fan_in_A", ".lora_fan_in_B"),
    "embedding": (".lora_embedding_A", ".lora_embedding_B"),
}
"""Suffixes of the two factors by how the layer keeps its weight."""

RANK_FREE: Final = 1024
"""Ranks up to this are taken for any weight; above, none beyond the weight's own."""

HINT: Final = "contribute a fine-tune of the space's base"
MISSING_HINT: Final = (
    "let the recipe say `missing: base`, which leaves them as they are"
)
NAMED_MAX: Final = 3
"""Names of tensors that a message lists."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The tensor itself, in the base's shape; a float in any float dtype, as it is."""

    entry: TensorEntry

    @property
    def size(self) -> int:
        """Number of bytes to be read for it."""
        return self.entry.size


@dataclass(frozen=True, slots=True)
class Delta:
    """A task vector, in any float dtype and the base's shape."""

    entry: TensorEntry

    @property
    def key(self) -> Value:
        """What of it can change an output bit."""
        return ["delta", self.entry.dtype, self.entry.blob]

    @property
    def size(self) -> int:
        """Number of bytes to be read for it."""
        return self.entry.size


@dataclass(frozen=True, slots=True)
class LowRank:
    """A pair of factors: scale * B @ A, transposed where `layer` is not `linear`.

    `a` is (rank, in, ...), `b` is (out, rank, ...), `scale` one F64.
    """

    layer: str
    a: TensorEntry
    b: TensorEntry
    scale: TensorEntry

    @property
    def rank(self) -> int:
        """The inner dimension of the product."""
        return self.a.shape[0]

    @property
    def size(self) -> int:
        """Number of bytes to be read for it."""
        return sum(entry.size for entry in (self.a, self.b, self.scale))

    @property
    def useful_rank(self) -> int:
        """The largest rank that the product can have."""
        return min(self.rank, self.b.shape[0], math.prod(self.a.shape[1:]))

    @property
    def transposed(self) -> bool:
        """Tell whether the product is turned before it is added to the base."""
        return self.layer != "linear"

    @property
    def key(self) -> Value:
        """What of it can change an output bit."""
        factors: list[Value] = [
            [e.dtype, list(e.shape), e.blob] for e in (self.a, self.b, self.scale)
        ]
        return ["lora", int(self.transposed), *factors]


Change = Whole | Delta | LowRank


def parts_of(change: Change) -> tuple[TensorEntry, ...]:
    """Return the stored tensors that a change is made of."""
    if isinstance(change, LowRank):
        return change.a, change.b, change.scale
    return (change.entry,)


def key_of(change: Change | None, target: TensorEntry) -> Value:
    """Return what of a change to the tensor `target` can change an output bit.

    None is no change: that has the key of the target itself.
    """
    match change:
        case None:
            return target.blob
        case Whole(entry) if entry.dtype == target.dtype:
            return entry.blob
        case Whole(entry):
            # SUBTLE: of two dtypes, equal bytes are other values.
            return ["whole", entry.dtype, entry.blob]
        case Delta() | LowRank():
            return change.key


def change_of_key(key: Value, target: TensorEntry) -> Change:
    """Return the change to the tensor `target` of the base that has this `key`.

    Raises:
        BadInputError: no change has it.
    """
    match key:
        case bytes(blob):
            return Whole(replace(target, blob=BlobId(blob)))
        case ["whole", str(dtype), bytes(blob)]:
            return Whole(replace(target, dtype=dtype, blob=BlobId(blob)))
        case ["delta", str(dtype), bytes(blob)]:
            return Delta(replace(target, dtype=dtype, blob=BlobId(blob)))
        case ["lora", (0 | 1) as turned, *factors] if len(factors) == 3:
            a, b, scale = (_factor(factor, target.name) for factor in factors)
            return LowRank("fan_in" if turned else "linear", a, b, scale)
        case _:
            raise BadInputError(f"no change of {target.name!r} has this key")


def _factor(value: Value, name: str) -> TensorEntry:
    match value:
        case [str(dtype), [*shape], bytes(blob)] if all(
            isinstance(size, int) for size in shape
        ):
            sizes = tuple(size for size in shape if isinstance(size, int))
            return TensorEntry(name, dtype, sizes, BlobId(blob))
        case _:
            raise BadInputError(f"no factor of {name!r} has this key")


def changes_of(
    manifest: Manifest, base: Manifest, missing: str = MISSING_CHOICES[0]
) -> dict[str, Change]:
    """Return what `manifest` says of the tensors of `base`, by their names, sorted.

    `missing` is the recipe's: with `base` a full model may lack tensors.

    Raises:
        BadInputError: names the first tensor that does not fit the base, and how.
    """
    theirs = {entry.name: entry for entry in base.tensors}
    if manifest.kind == "full":
        return _full(manifest, theirs, missing)
    if manifest.kind == "delta":
        return {e.name: _delta(e, theirs) for e in manifest.tensors}
    if manifest.kind == "lora":
        return _lora(manifest, theirs)
    message = f"a manifest of kind {manifest.kind!r} is no contribution"
    raise BadInputError(message)


def _full(
    manifest: Manifest, base: Mapping[str, TensorEntry], missing: str
) -> dict[str, Change]:
    names = {entry.name for entry in manifest.tensors}
    lacking = sorted(base.keys() - names)
    if lacking and missing != "base":
        message = f"the model lacks {_counted(lacking)} of the base"
        raise BadInputError(message, hint=f"{HINT}, or {MISSING_HINT}")
    if excess := sorted(names - base.keys()):
        message = f"the model has {_counted(excess)} that the base lacks"
        hint = "found the space on a base that has them, or leave them out"
        raise BadInputError(message, hint=hint)
    return {e.name: _whole(e, base[e.name]) for e in manifest.tensors}


def _counted(names: Sequence[str]) -> str:
    """Say how many tensors, and which come first."""
    listed = ", ".join(map(repr, names[:NAMED_MAX]))
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"{len(names)} tensor{'s' * (len(names) > 1)} ({listed}{more})"


def _whole(entry: TensorEntry, expected: TensorEntry) -> Whole:
    floats = {entry.dtype, expected.dtype} <= FLOAT_DTYPES
    if entry.shape != expected.shape or not (floats or entry.dtype == expected.dtype):
        message = (
            f"tensor {entry.name!r} is {entry.dtype} {list(entry.shape)},"
            f" in the base {expected.dtype} {list(expected.shape)}"
        )
        raise BadInputError(message, hint=HINT)
    return Whole(entry)


def _delta(entry: TensorEntry, base: Mapping[str, TensorEntry]) -> Delta:
    expected = base.get(entry.name)
    if expected is None:
        message = f"the delta has the tensor {entry.name!r}, which the base lacks"
        raise BadInputError(message, hint=HINT)
    if entry.shape != expected.shape:
        message = (
            f"the delta's tensor {entry.name!r} has the shape {list(entry.shape)},"
            f" in the base {list(expected.shape)}"
        )
        raise BadInputError(message, hint=HINT)
    if not {entry.dtype, expected.dtype} <= FLOAT_DTYPES:
        message = (
            f"the delta's tensor {entry.name!r} is {entry.dtype} on a base of"
            f" {expected.dtype}: only floating-point tensors have task vectors"
        )
        raise BadInputError(message, hint="leave it out: it stays as in the base")
    return Delta(entry)


def _lora(manifest: Manifest, base: Mapping[str, TensorEntry]) -> dict[str, Change]:
    left = {entry.name: entry for entry in manifest.tensors}
    changes: dict[str, Change] = {}
    for name in [name for name in left if name in base]:
        changes[name] = _whole(left.pop(name), base[name])
    for layer, (end_a, end_b) in PAIR_SUFFIXES.items():
        for name in [name for name in left if name.endswith(end_a)]:
            target = name.removesuffix(end_a)
            if target not in base or target in changes:
                continue
            pair = (left.pop(name), left.pop(target + end_b, None))
            scale = left.pop(target + SCALE_SUFFIX, None)
            changes[target] = _pair(layer, pair, scale, base[target])
    if left:
        name = min(left)
        message = f"the adapter has the tensor {name!r}, which fits none of the base"
        raise BadInputError(message, hint="is its base another model?")
    return dict(sorted(changes.items()))


def _pair(
    layer: str,
    pair: tuple[TensorEntry, TensorEntry | None],
    scale: TensorEntry | None,
    target: TensorEntry,
) -> LowRank:
    a, b = pair
    if b is None or scale is None:
        message = f"the adapter's pair for {target.name!r} is incomplete"
        raise BadInputError(message, hint="it needs both factors and a scale")
    if not {a.dtype, b.dtype, target.dtype} <= FLOAT_DTYPES:
        message = (
            f"the adapter changes {target.name!r}, which is {target.dtype} in the base,"
            f" by factors of {a.dtype} and {b.dtype}: only floating-point tensors merge"
        )
        hint = "is the base quantised? use the base that it was made from"
        raise BadInputError(message, hint=hint)
    made = LowRank(layer, a, b, scale)
    if (scale.dtype, scale.shape) != ("F64", ()) or not _fits(made, target.shape):
        message = (
            f"the adapter's factors for {target.name!r} are {list(a.shape)} and"
            f" {list(b.shape)}; in the base it is {list(target.shape)}"
        )
        raise BadInputError(message, hint="is its base another model?")
    return made


def _fits(pair: LowRank, shape: tuple[int, ...]) -> bool:
    """Tell whether the product of the factors has the weight's `shape`, and a sane rank.

    SUBTLE: a rank costs work and memory for each of its columns, whatever the weight is.
    """
    a, b = pair.a.shape, pair.b.shape
    if min(len(a), len(b), len(shape)) < 2 or math.prod(b[2:]) != 1:
        return False
    if a[0] != b[1] or not 0 < a[0] <= max(RANK_FREE, min(b[0], math.prod(a[1:]))):
        return False
    if pair.transposed:
        return len(a) == len(shape) == 2 and shape == (a[1], b[0])
    return (b[0], *a[1:]) == shape


def task_vector_of(
    change: Delta | LowRank, read: Callable[[TensorEntry], Data], label: str
) -> Singles:
    """Return the task vector that a contribution gives, flat; `read` gives bytes.

    Raises:
        ContractError: it holds NaN or infinity, or is beyond float32.
    """
    if isinstance(change, Delta):
        data = _finite(read, change.entry, label)
        return given_task_vector(data, change.entry.dtype, label)
    a, b = (
        _matrix(_finite(read, entry, label), entry) for entry in (change.a, change.b)
    )
    scale = float(upcast(read(change.scale), change.scale.dtype)[0])
    return low_rank(a, b, scale, transposed=change.transposed, name=label)


def _finite(
    read: Callable[[TensorEntry], Data], entry: TensorEntry, label: str
) -> Data:
    """Return a tensor's bytes, once they are known to be numbers."""
    data = read(entry)
    found = inspect(data, entry.dtype)
    if not found.finite:
        message = f"{label}: {entry.name!r} holds NaN or infinity: {found.fault}"
        hint = "train or export it again; such values cannot be merged"
        raise ContractError(message, hint=hint)
    return data


def _matrix(data: Data, entry: TensorEntry) -> Floats:
    """Return a factor with its trailing dimensions (a kernel's) made one."""
    return upcast(data, entry.dtype).reshape(entry.shape[0], math.prod(entry.shape[1:]))
