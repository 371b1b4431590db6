"""What tasks see: the tensors of base and contributions, read and checked.

Owns the checks that need tensor bytes, and whose fault it is when one fails. Does not own
storage (`TensorSource`), formulas, nor which tensors a task needs.
"""

from dataclasses import replace
from typing import Protocol, assert_never

import numpy as np

from crdtmerge.changes import Change, Whole, parts_of, task_vector_of
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import (
    ContractError,
    CorruptBlobError,
    FaultyContributionError,
)
from crdtmerge.manifest import ITEM_BYTES, TensorEntry
from crdtmerge.numerics import (
    EXPONENT_MAX,
    Data,
    Items,
    TensorFacts,
    check_base,
    check_headroom,
    check_range,
    check_reach,
    inspect,
)
from crdtmerge.resolve.plan import Plan, output_dtype
from crdtmerge.strategies import Given, Inputs, Values
from crdtmerge.strategies import Whole as WholeModel


class TensorSource(Protocol):
    """Where the bytes of base and contributions come from; safe to call from threads."""

    def read(self, blob: BlobId, size: int) -> Data:
        """Return the `size` bytes of `blob`, verified.

        Raises:
            ContentMissingError: they are not here.
            CorruptBlobError: what is here does not have the digest.
        """


def read_tensor(source: TensorSource, entry: TensorEntry) -> Data:
    """Return a stored tensor.

    Raises:
        CorruptBlobError: it is not of its size; or as `source` raises.
    """
    data = source.read(entry.blob, entry.size)
    if len(data) != entry.size:
        message = f"tensor {entry.name!r} has {len(data)} bytes, not {entry.size}"
        raise CorruptBlobError(message)
    return data


Reads = tuple[tuple[BlobId, int], ...]
"""Blobs that are read, with their sizes; one that is read twice is there twice."""


def reads_of(plan: Plan, name: str) -> Reads:
    """Return what computing a tensor reads, as `TensorReader` reads it."""
    frame = plan.frames[name]
    entry = frame.entry
    own = ((entry.blob, entry.size),)
    if not frame.is_merged:
        return own
    found: dict[BlobId | Change, Reads] = {}
    if frame.ground != "none":
        found[entry.blob] = own if frame.ground == "base" else ()
    for changes in plan.changes:
        change = changes.get(name)
        if change is not None:
            parts = tuple((part.blob, part.size) for part in parts_of(change))
            found.setdefault(_key(entry, change), parts)
    tensors = tuple(read for reads in found.values() for read in reads)
    return tensors + plan.attached.reads(name)


class TensorReader:
    """Reads what a plan's tasks need, tensor by tensor."""

    def __init__(self, plan: Plan, source: TensorSource) -> None:
        """Keep both; nothing is read before it is asked for."""
        self._plan = plan
        self._source = source
        self._entries = {entry.name: entry for entry in plan.base.tensors}

    def entry(self, name: str) -> TensorEntry:
        """Return the base's description of a tensor."""
        return self._entries[name]

    def inputs(self, name: str) -> Inputs:
        """Read and check one tensor of every model."""
        plan, entry = self._plan, self._entries[name]
        setting = plan.settings.of_tensor(name)
        base = self.base(name)
        facts = self.facts(name, base)
        held: dict[BlobId | Change, Given] = {}
        if base is not None:
            held[entry.blob] = base
        given = []
        for contribution, changes in zip(plan.contributions, plan.changes, strict=True):
            change = changes.get(name)
            key = _key(entry, change)
            if key not in held:
                assert change is not None, "who leaves a tensor alone gives the base's"
                content = contribution.content
                held[key] = self.given(name, content, change, facts, base)
            given.append(held[key])
        return replace(
            self.frame(name),
            base=base,
            contributions=tuple(given),
            contents=plan.contents,
            own=tuple(setting.values_of(own) for own in setting.own),
            evidence=plan.attached.of_tensor(plan.frames[name].entry, self.read),
        )

    def whole(self) -> WholeModel:
        """Return what a reduce step sees beside the measures, with single numbers."""
        numbers = self._plan.attached.numbers(self.read)
        return replace(self._plan.whole, scalars=numbers)

    def frame(self, name: str) -> Inputs:
        """Return what a task sees without a byte read: no base, no contribution.

        The weights are those of all.
        """
        plan, frame = self._plan, self._plan.frames[name]
        setting = plan.settings.of_tensor(name)
        return Inputs(
            tensor=name,
            dtype=frame.entry.dtype,
            items=frame.entry.items,
            base=None,
            contributions=(),
            contents=(),
            weights=setting.weights,
            seed=plan.seeds.get(name, b""),
            seed_scope=plan.recipe.seed_scope,
            output_dtype=output_dtype(plan.recipe, frame),
            values=Values(setting.parameters),
            shape=frame.entry.shape,
            exponent=frame.exponent,
            layer=plan.settings.places[name].layer,
        )

    def base(self, name: str) -> Data | None:
        """Return what task vectors are added to; None if there is no such thing."""
        match self._plan.frames[name].ground:
            case "base":
                return self.read(self._entries[name])
            case "zero":
                return bytes(self._entries[name].items * ITEM_BYTES["F32"])
            case "none":
                return None
            case ground:
                assert_never(ground)

    def facts(self, name: str, base: Data | None) -> TensorFacts:
        """Return what bounds the contributions: the base's facts, told or found.

        Raises:
            ContractError: no grid can be laid for the base.
        """
        frame = self._plan.frames[name]
        if base is None or frame.exponent is not None:
            known = EXPONENT_MAX if frame.exponent is None else frame.exponent
            return TensorFacts(finite=True, exponent=known)
        facts = inspect(base, frame.entry.dtype)
        check_base(facts, f"tensor {name!r}")
        return facts

    def read(self, entry: TensorEntry) -> Data:
        """Return a stored tensor; raises as `read_tensor` does."""
        return read_tensor(self._source, entry)

    def given(
        self,
        name: str,
        content: ContentId,
        change: Change,
        facts: TensorFacts,
        base: Data | None,
    ) -> Given:
        """Read a contribution's tensor: that it is visible says nothing of its values.

        Raises:
            FaultyContributionError: it cannot be merged into this base.
        """
        try:
            found = self._given(name, change, facts)
            self._check_reach(name, found, base)
        except ContractError as e:
            raise FaultyContributionError(content, str(e)) from e
        return found

    def _given(self, name: str, change: Change, facts: TensorFacts) -> Given:
        label, dtype = f"tensor {name!r}", self._plan.frames[name].entry.dtype
        if isinstance(change, Whole):
            data = self.read(change.entry)
            check_headroom(inspect(data, change.entry.dtype), facts, label)
            if change.entry.dtype == dtype:
                return data
            check_range(data, change.entry.dtype, dtype, label)
            return Items(data, change.entry.dtype)
        tau = task_vector_of(change, self.read, label)
        check_headroom(inspect(tau.data, "F32"), facts, label)
        return tau

    def _check_reach(self, name: str, given: Given, base: Data | None) -> None:
        """Refuse a task vector that leads out of the dtype: its author is to be named."""
        frame = self._plan.frames[name]
        if base is None or frame.ground != "base" or not isinstance(given, np.ndarray):
            return
        check_reach(base, given, frame.entry.dtype, f"tensor {name!r}")


def _key(entry: TensorEntry, change: Change | None) -> BlobId | Change:
    """Return what tells equal tensors of several contributions apart from others."""
    if isinstance(change, Whole) and change.entry.dtype == entry.dtype:
        return change.entry.blob
    return entry.blob if change is None else change
