"""Taking in a model before it is offered to others: one pass that names and checks it.

Owns which values are refused, by kind of contribution, and what is asked of the pass. Does
not own the limits (`numerics`), what a manifest holds (`ingest`), nor reading and keeping
the bytes (`Pass`).

The base's bytes are not read: its exponents, found when it was taken in itself, say what
headroom there is. Only where a task vector may lead beyond the largest value of a narrow
dtype is the base's part of it looked at.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from crdtmerge.changes import LowRank, changes_of, task_vector_of
from crdtmerge.digest import BlobId
from crdtmerge.errors import BadInputError, ContractError
from crdtmerge.formats.adapter import Adapter, fitted
from crdtmerge.formats.folder import ModelFolder
from crdtmerge.formats.header import StoredTensor
from crdtmerge.formats.ingest import (
    Model,
    header_changes,
    headers,
    named_adapter,
    whole_manifest,
)
from crdtmerge.formats.survey import Look, Pass, Visit
from crdtmerge.formats.tying import by_blobs, fit_ties
from crdtmerge.manifest import FLOAT_DTYPES, ITEM_BYTES, Manifest, TensorEntry
from crdtmerge.numerics import (
    TensorFacts,
    check_base,
    check_headroom,
    check_range,
    check_reach,
    given_task_vector,
    inspect,
    inspect_part,
    join_facts,
    within_reach,
)
from crdtmerge.recipe import MISSING_CHOICES

DELTA_ITEMS: Final = 1 << 17
"""Items of a task vector that are widened at once: 1 MiB in float64."""

ReadPart: TypeAlias = Callable[[TensorEntry, int, int], memoryview]
"""Returns `length` verified bytes of a tensor of the base, from a byte on."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a contribution is checked against: the base, its exponents, its bytes.

    `missing` is what the space's recipe says of full models that lack tensors.
    """

    base: Manifest
    exponents: Mapping[str, int]
    read: ReadPart
    missing: str = MISSING_CHOICES[0]

    def facts(self, name: str) -> TensorFacts:
        """Return the facts of the base's tensor of a name; they were found fit."""
        return TensorFacts(finite=True, exponent=self.exponents[name])


def take_base(
    folder: ModelFolder, look_through: Pass
) -> tuple[Model, dict[str, TensorFacts]]:
    """Return a model that may be a base, and the facts of its float tensors.

    Raises:
        BadInputError: names the first tensor that holds NaN or infinity; or the model is
            quantised with scales beside it, or a file changed.
    """
    headers(folder, "base", b"")
    blobs, facts = [], {}
    visits = [Visit(t, _look_at(t.dtype)) for t in folder.tensors]
    with _as_bad_input():
        for visit, seen in zip(visits, look_through(visits), strict=True):
            blobs.append(seen.blob)
            if seen.facts is not None:
                facts[visit.tensor.name] = seen.facts
                check_base(seen.facts, f"tensor {visit.tensor.name!r}")
    manifest = whole_manifest(folder, "base", b"", blobs)
    return Model(folder.path, manifest, folder.tensors), facts


def take_model(
    folder: ModelFolder, kind: str, ground: Ground, look_through: Pass
) -> Model:
    """Return a full model or a delta that may be contributed.

    Raises:
        BadInputError: its tensors do not fit the base (known before any is read); or
            names the first that holds NaN or infinity, or leaves the headroom over the
            base, with the limit.
    """
    base = ground.base
    folder = fit_ties(folder, base, by_blobs(base), whole=kind == "full")
    changes_of(headers(folder, kind, base.content_id), base, ground.missing)
    theirs = {entry.name: entry for entry in base.tensors}
    blobs = []
    visits = [
        Visit(t, _look(kind, t, theirs[t.name], ground), name=t.name)
        for t in folder.tensors
    ]
    with _as_bad_input():
        for visit, seen in zip(visits, look_through(visits), strict=True):
            blobs.append(seen.blob)
            if seen.facts is not None:
                _judge(visit.tensor.name, seen.facts, ground)
    manifest = whole_manifest(folder, kind, base.content_id, blobs)
    return Model(folder.path, manifest, folder.tensors, notes=folder.notes)


def _look(
    kind: str, stored: StoredTensor, theirs: TensorEntry, ground: Ground
) -> Look | None:
    if kind == "delta":
        return partial(_look_at_delta, stored, theirs, ground)
    return _look_at_whole(stored, theirs.dtype)


def _look_at_whole(stored: StoredTensor, into: str) -> Look | None:
    """Return how a model's tensor is looked at, the base's being of dtype `into`."""
    if stored.dtype == into or stored.dtype not in FLOAT_DTYPES:
        return _look_at(stored.dtype)
    return partial(_inspected_for, stored, into)


def _inspected_for(
    stored: StoredTensor, into: str, data: memoryview, first: int
) -> TensorFacts:
    """Return the facts of a part, once the dtype of the base is known to reach as far."""
    found = _inspected(stored.dtype, data, first)
    if found.finite:
        check_range(data, stored.dtype, into, f"tensor {stored.name!r}")
    return found


def _look_at(dtype: str) -> Look | None:
    """Return how a tensor that stands for itself is looked at; others have no values."""
    if dtype not in FLOAT_DTYPES:
        return None
    return partial(_inspected, dtype)


def _inspected(dtype: str, data: memoryview, first: int) -> TensorFacts:
    return inspect_part(data, dtype, first)


def _look_at_delta(
    stored: StoredTensor,
    theirs: TensorEntry,
    ground: Ground,
    data: memoryview,
    first: int,
) -> TensorFacts:
    """Return the facts of a part of a task vector; those of its bytes if they are none."""
    raw = inspect_part(data, stored.dtype, first)
    if not raw.finite:
        return raw
    width, label, found = ITEM_BYTES[stored.dtype], f"tensor {stored.name!r}", []
    for start in range(0, len(data) // width, DELTA_ITEMS):
        part = data[start * width : (start + DELTA_ITEMS) * width]
        tau = given_task_vector(part, stored.dtype, label)
        found.append(inspect_part(tau.data, "F32", first + start))
        most = max(found[-1].exponent, ground.exponents[stored.name])
        if not within_reach(most, theirs.dtype):
            item = ITEM_BYTES[theirs.dtype]
            base = ground.read(theirs, (first + start) * item, tau.size * item)
            check_reach(base, tau, theirs.dtype, label)
    return join_facts(found)


def _judge(name: str, facts: TensorFacts, ground: Ground) -> None:
    """Refuse what leaves the headroom over the base's tensor of this name."""
    check_headroom(facts, ground.facts(name), f"tensor {name!r}")


def take_adapter(adapter: Adapter, ground: Ground, look_through: Pass) -> Model:
    """Return an adapter that may be contributed, as a contribution of kind `lora`.

    The product of each pair is computed for it, one at a time: that takes the memory of
    the pair and of its weight, whatever the adapter's size.

    Raises:
        BadInputError: it does not fit the base; or names the first tensor that holds NaN
            or infinity, or leaves the headroom over the base, with the limit.
    """
    here = fitted(adapter, ground.base)
    changes = header_changes(here, ground.base)
    visits = _visits(here, ground)
    seen: dict[StoredTensor, BlobId] = {}
    held: dict[StoredTensor, bytes] = {}
    ends = {pair.b: name for name, pair in here.pairs.items()}
    with _as_bad_input():
        for visit, found in zip(visits, look_through(visits), strict=True):
            tensor, seen[visit.tensor] = visit.tensor, found.blob
            if visit.held:
                held[tensor] = found.data
            elif found.facts is not None:
                _judge(visit.name, found.facts, ground)
            if (name := ends.get(tensor)) is not None:
                change, pair = changes[name], here.pairs[name]
                assert isinstance(change, LowRank)
                data = {
                    change.a: held.pop(pair.a),
                    change.b: held.pop(pair.b),
                    change.scale: struct.pack("<d", pair.scale),
                }
                _check_product(change, data, ground, name)
    return named_adapter(here, ground.base, seen)


def _visits(adapter: Adapter, ground: Ground) -> list[Visit]:
    """Return what to look at: the factors of a pair one after the other, then the rest.

    Of what is given whole as well as by factors, or under a name that the base lacks, the
    bytes alone decide: it must be the base's.
    """
    visits = [
        Visit(tensor, held=True)
        for _, pair in sorted(adapter.pairs.items())
        for tensor in (pair.a, pair.b)
    ]
    theirs = {entry.name: entry for entry in ground.base.tensors}
    for name, tensor in sorted(adapter.whole.items()):
        plain = name in ground.exponents and name not in adapter.pairs
        look = _look_at_whole(tensor, theirs[name].dtype) if plain else None
        visits.append(Visit(tensor, look, name=name))
    visits += [Visit(copied) for _, copied in adapter.copies]
    return list({visit.tensor: visit for visit in reversed(visits)}.values())[::-1]


def _check_product(
    change: LowRank, data: Mapping[TensorEntry, bytes], ground: Ground, name: str
) -> None:
    """Refuse a pair whose product no resolve could use."""
    theirs = next(entry for entry in ground.base.tensors if entry.name == name)
    label = f"tensor {name!r} (the product of its factors)"
    tau = task_vector_of(change, data.__getitem__, label)
    facts, base = inspect(tau.data, "F32"), ground.facts(name)
    check_headroom(facts, base, label)
    if not within_reach(max(facts.exponent, base.exponent), theirs.dtype):
        check_reach(ground.read(theirs, 0, theirs.size), tau, theirs.dtype, label)


@contextmanager
def _as_bad_input() -> Iterator[None]:
    """Turn a broken limit of the contract into the fault of the file at hand."""
    try:
        yield
    except ContractError as e:
        raise BadInputError(str(e), hint=e.hint) from e
