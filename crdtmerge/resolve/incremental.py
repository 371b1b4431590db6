"""Resolving again at the cost of what changed: sums are kept, and gone on with.

Owns which contributions go into and out of each tensor's sums, what is read for it, and
starting afresh where sums cannot be gone on with. Does not own the sums (`accumulators`),
their form (`kept`), nor where they lie (`SumsStore`).

A tensor whose task has the key of the one that made the output at hand costs nothing: no
blob is read and no task runs. Else the contributions that left or came are read, and the
base where task vectors or the end need it; none that stayed. The bytes are those of
`execute`. Kept sums are derived data: those that are damaged, or were made for another
recipe or base, are dropped with a reason and made afresh.
"""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from crdtmerge.changes import Whole, change_of_key
from crdtmerge.codec import Value, encode
from crdtmerge.digest import BlobId, ContentId, Domain, blob_id_of, digest_value
from crdtmerge.errors import (
    BadInputError,
    ContentMissingError,
    CorruptBlobError,
    DamagedStateError,
    UpgradeNeededError,
)
from crdtmerge.formats.progress import Report
from crdtmerge.numerics import CONTRACT_VERSION, Data, TensorFacts
from crdtmerge.resolve import kept
from crdtmerge.resolve.accumulators import (
    Accumulator,
    Entry,
    Member,
    member_of_key,
)
from crdtmerge.resolve.execute import TensorSink, reporter
from crdtmerge.resolve.plan import Plan, Task, stands_on
from crdtmerge.resolve.pool import Pool
from crdtmerge.resolve.reading import TensorReader, TensorSource
from crdtmerge.strategies import Given
from crdtmerge.strategies.sums import Ending, Share, Sums, unchanged
from crdtmerge.strategies.table import SUMS
from crdtmerge.strategies.tensors import Term, participants

FIRST: Final = "no sums were kept"


class SumsStore(Protocol):
    """Where kept sums lie, by tensor; safe to call from threads.

    Nothing that it returns is trusted. Whoever can write to it can change merged bytes
    unseen, so it lies where only the user can write.
    """

    def load(self, tensor: str) -> Data | None:
        """Return what was kept for a tensor, None if nothing was."""

    def save(self, tensor: str, data: Data) -> None:
        """Keep this in place of what was kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a resolve came to.

    `digests` are those of all output tensors, as `execute` returns them. `written` are
    the tensors that the sink was given: of the others the caller holds the bytes.
    `afresh` tells why sums were made from all contributions.
    """

    digests: Mapping[str, BlobId]
    written: tuple[str, ...]
    afresh: Mapping[str, str]


def why_not(plan: Plan) -> str:
    """Return why a plan's sums cannot be kept; empty if they can."""
    name, recipe = plan.strategy.full_name, plan.recipe
    if name not in SUMS:
        return f"{name} is no sum that takes one contribution by itself"
    if plan.strategy.draws and recipe.seed_scope == "set":
        return (
            f"{name} draws its masks by the set: when one contribution comes or goes,"
            " those of all others change"
        )
    if any(f.ground == "none" and f.exponent is None for f in plan.frames.values()):
        return "without a base the grid of the sums hangs on the set"
    return ""


def resolve_incrementally(
    plan: Plan,
    source: TensorSource,
    sink: TensorSink,
    store: SumsStore,
    *,
    held: Mapping[str, BlobId] | None = None,
    executor: Executor | None = None,
    threads: int = 1,
    report: Report | None = None,
) -> Outcome:
    """Compute the model of `plan`, going on with the sums in `store`.

    `held` are the digests of the output tensors that the caller has already, from an
    earlier resolve: such a tensor is not written again if it is to be the same.

    Raises:
        BadInputError: the sums of this plan cannot be kept (`why_not`).
        CrdtMergeError: whatever `execute` raises; the store then holds, for each tensor,
            what it held before or what it should hold now.
    """
    if reason := why_not(plan):
        hint = (
            "resolve it whole; linear, task_arithmetic and ties can be kept, and dare"
        )
        raise BadInputError(reason, hint=f"{hint} with the seed scope `contribution`")
    run = _Run(plan, source, sink, store, held or {})
    emits = [task for task in plan.tasks if task.kind == "emit"]
    count = reporter(plan, "merging", emits, report)
    done = Pool(executor, threads).run(run.emit, emits, count)
    found = {task.tensor: made for task, made in zip(emits, done, strict=True)}
    return Outcome(
        {name: made.digest for name, made in found.items()},
        tuple(name for name, made in found.items() if made.written),
        {name: made.afresh for name, made in found.items() if made.afresh},
    )


@dataclass(frozen=True, slots=True)
class _Made:
    """What one task came to."""

    digest: BlobId
    written: bool = False
    afresh: str = ""


@dataclass(frozen=True, slots=True)
class _Run:
    """One resolve: what its tasks share."""

    plan: Plan
    source: TensorSource
    sink: TensorSink
    store: SumsStore
    held: Mapping[str, BlobId]

    def emit(self, task: Task) -> _Made:
        """Make one output tensor, unless the caller has it."""
        if self.plan.frames[task.tensor].is_merged:
            return self._merge(task)
        entry = self.plan.frames[task.tensor].entry
        if self.held.get(task.tensor) == entry.blob:
            return _Made(entry.blob)
        data = TensorReader(self.plan, self.source).read(entry)
        self.sink.write(task.tensor, data)
        return _Made(blob_id_of(data), written=True)

    def _merge(self, task: Task) -> _Made:
        found, reason = self._load(task)
        if found and self._is_done(task, found.last):
            return _Made(found.last.output)
        tensor = _Tensor(self.plan, task.tensor, self.source)
        old: Accumulator | None = None
        sums: Accumulator | None = None
        if found:
            old, reason = tensor.verified(found)
        if old is not None:
            sums, reason = tensor.gone_on(old)
        if sums is None:
            old, sums = None, tensor.afresh()
        if found and old and tensor.ends_alike(old, sums, found.last):
            made = found.last.output
            done = self.held.get(task.tensor) == made
        else:
            done = False
        if not done:
            data = tensor.finish(sums)
            made = blob_id_of(data)
            self.sink.write(task.tensor, data)
        last = kept.Last(task.key, tensor.output_dtype, made)
        self.store.save(task.tensor, kept.to_bytes(sums, last))
        return _Made(made, written=not done, afresh=reason)

    def _load(self, task: Task) -> tuple[kept.Kept | None, str]:
        """Return what was kept, or why nothing can be used of it."""
        data = self.store.load(task.tensor)
        if data is None:
            return None, FIRST
        try:
            return kept.from_bytes(data), ""
        except (DamagedStateError, UpgradeNeededError) as e:
            return None, str(e)

    def _is_done(self, task: Task, last: kept.Last) -> bool:
        return last.task == task.key and self.held.get(task.tensor) == last.output


class _Tensor:
    """One tensor's task: the sums it should have, and reading what they lack."""

    def __init__(self, plan: Plan, name: str, source: TensorSource) -> None:
        self._plan = plan
        self._name = name
        self._label = f"tensor {name!r}"
        self._sums: Sums = SUMS[plan.strategy.full_name]
        self._reader = TensorReader(plan, source)
        self._entry = self._reader.entry(name)
        self._inputs = self._reader.frame(name)
        self._made_for = _made_for(plan, name)
        self._wanted, self._offered = self._members()
        self._base: list[Data | None] = []
        self._given: dict[bytes, Given] = {}

    @property
    def output_dtype(self) -> str:
        """The dtype of the output tensor."""
        return self._inputs.output_dtype or self._inputs.dtype

    def verified(self, found: kept.Kept) -> tuple[Accumulator | None, str]:
        """Return kept sums that are whole and made for this tensor, or why not."""
        if found.sums.made_for != self._made_for:
            return None, "the sums kept were made for another recipe or base"
        try:
            sums = found.accumulator()
        except DamagedStateError as e:
            return None, str(e)
        if not sums.fits(self._sums, self._inputs):
            return None, "the sums kept are on another grid"
        return sums, ""

    def gone_on(self, old: Accumulator) -> tuple[Accumulator | None, str]:
        """Return the sums that follow from old ones, or why none do."""
        self._inputs = replace(self._inputs, exponent=old.exponent)
        leave, join = old.counts - self._wanted, self._wanted - old.counts
        try:
            gone = [self._entry_of(key, joins=False) for key in leave.elements()]
        except (BadInputError, ContentMissingError, CorruptBlobError) as e:
            return None, f"a contribution to be taken out cannot be read: {e}"
        come = [self._entry_of(key, joins=True) for key in join.elements()]
        sums = old.changed(self._sums, gone, come, self._label)
        if sums is None:
            return None, "the factor that all contributions share is another now"
        return sums, ""

    def afresh(self) -> Accumulator:
        """Return the sums over all contributions."""
        facts = self._reader.facts(self._name, self._read_base())
        self._inputs = replace(self._inputs, exponent=facts.exponent)
        nothing = Accumulator.empty(self._sums, self._made_for, self._inputs)
        come = [self._entry_of(key, joins=True) for key in self._wanted.elements()]
        sums = nothing.changed(self._sums, [], come, self._label)
        assert sums is not None, "empty sums have nobody whose coefficient could change"
        return sums

    def ends_alike(self, old: Accumulator, new: Accumulator, last: kept.Last) -> bool:
        """Tell whether the last output is also that of the new sums."""
        if old.planes is not new.planes or last.dtype != self.output_dtype:
            return False
        before = [share.weight for share in old.shares]
        inputs = replace(self._inputs, weights=tuple(before))
        return self._sums.ending(inputs, old.shares) == self._ending(new)

    def finish(self, sums: Accumulator) -> Data:
        """Return the output tensor's bytes."""
        ending = self._ending(sums)
        base = self._read_base() if self._sums.reads_base(ending) else None
        inputs = replace(self._inputs, base=base)
        return self._sums.finish(inputs, sums.planes, sums.grid, ending)

    def _ending(self, sums: Accumulator) -> Ending:
        return self._sums.ending(self._inputs, sums.shares)

    def _members(self) -> tuple[Counter[bytes], dict[bytes, ContentId]]:
        """Return what the sums should hold, and who offers each member."""
        wanted: Counter[bytes] = Counter()
        offered: dict[bytes, ContentId] = {}
        draws = self._plan.strategy.draws
        pairs = zip(self._plan.contributions, self._plan.changes, strict=True)
        for contribution, changes in pairs:
            change = changes.get(self._name)
            said: Value = self._entry.blob if change is None else change.key
            content = contribution.content if draws else b""
            member = Member(said, contribution.weight, contribution.parameters, content)
            wanted[member.key] += 1
            offered.setdefault(member.key, contribution.content)
        return wanted, offered

    def _entry_of(self, key: bytes, *, joins: bool) -> Entry:
        """Return a member with what it brings; read it only where that needs it.

        One of weight zero brings nothing, but is checked when it joins, as it is in a
        resolve that reads all. One that leaves the tensor alone brings no task vector.
        """
        member = member_of_key(key)
        content = self._offered.get(key, ContentId(member.content))
        alone = member.said == self._entry.blob
        if not member.weight:
            if joins and not alone:
                self._read(member, content, joins=True)
            return Entry(key, Share(0))
        values = self._reader.own(self._name, member.own)
        if alone and self._sums.of_task_vectors:
            term = Term(b"", member.weight, content, self._name, values)
            return Entry(key, unchanged(self._sums, self._inputs, term))
        given = self._read(member, content, joins=joins)
        inputs = replace(
            self._inputs,
            base=self._read_base() if self._needs_base(given) else None,
            contributions=(given,),
            contents=(content,),
            weights=(member.weight,),
            own=(values,),
        )
        _, (term,) = participants(inputs, inputs.weights)
        portion = self._sums.portion(inputs, term)
        return Entry(key, portion.share, portion)

    def _needs_base(self, given: Given) -> bool:
        """Tell whether a contribution's portion is made with the base."""
        return self._sums.of_task_vectors or isinstance(given, np.ndarray)

    def _read(self, member: Member, content: ContentId, *, joins: bool) -> Given:
        """Read what a contribution says, once; check it if it joins.

        What leaves was checked when it joined.
        """
        said = encode(member.said)
        if said not in self._given:
            change = change_of_key(member.said, self._entry)
            alone = member.said == self._entry.blob
            reaches = joins and not isinstance(change, Whole)
            base = self._read_base() if alone or reaches else None
            if not alone or base is None:
                found = self._reader.given(
                    self._name, content, change, self._facts, base
                )
            else:
                found = base
            self._given[said] = found
        return self._given[said]

    @property
    def _facts(self) -> TensorFacts:
        """What bounds contributions, once the grid is known."""
        assert self._inputs.exponent is not None, "read before the grid is known"
        return TensorFacts(finite=True, exponent=self._inputs.exponent)

    def _read_base(self) -> Data | None:
        """Return the base's tensor, read once; None where there is none to read."""
        if not self._base:
            self._base = [self._reader.base(self._name)]
        return self._base[0]


def _made_for(plan: Plan, name: str) -> bytes:
    """Return the digest of what the members of a tensor's sums have in common."""
    frame, recipe = plan.frames[name], plan.recipe
    keyed: list[Value] = [recipe.seed_scope, name] if plan.strategy.draws else []
    value: list[Value] = [
        CONTRACT_VERSION,
        plan.strategy.full_name,
        [list(pair) for pair in recipe.parameters_for(name)],
        frame.entry.dtype,
        list(frame.entry.shape),
        stands_on(frame),
        keyed,
    ]
    return digest_value(Domain.SUMS, value)
