"""The sums that one tensor of a plan should have, and reading what kept ones lack.

Owns who is a member, what of it is read, and when sums cannot be gone on with. Does not
own the sums themselves (`accumulators`), nor storing them (`incremental`).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from crdtmerge.changes import Whole, change_of_key, key_of, parts_of
from crdtmerge.codec import Value, encode
from crdtmerge.digest import BlobId, ContentId, Domain, digest_value
from crdtmerge.errors import (
    BadInputError,
    ContentMissingError,
    CorruptBlobError,
)
from crdtmerge.numerics import (
    CONTRACT_VERSION,
    SIGNIFICAND_BITS,
    Data,
    Planes,
    TensorFacts,
    check_sum,
)
from crdtmerge.resolve.accumulators import (
    Accumulator,
    Entry,
    Member,
    member_of_key,
)
from crdtmerge.resolve.kept import Kept, Last
from crdtmerge.resolve.plan import Plan, stands_on
from crdtmerge.resolve.reading import Reads, TensorReader
from crdtmerge.strategies import Given
from crdtmerge.strategies.sums import Ending, Share, Sums, unchanged
from crdtmerge.strategies.table import SUMS
from crdtmerge.strategies.tensors import Term, participants


class TensorSums:
    """One tensor's task: the sums it should have, and reading what they lack."""

    def __init__(self, plan: Plan, name: str, reader: TensorReader) -> None:
        """Find out what the sums should hold; nothing is read before it is needed."""
        self._plan = plan
        self._name = name
        self._label = f"tensor {name!r}"
        self._sums: Sums = SUMS[plan.strategy.full_name]
        self._reader = reader
        self._entry = self._reader.entry(name)
        self._inputs = self._reader.frame(name)
        self._setting = plan.settings.of_tensor(name)
        self._made_for = _made_for(plan, name)
        self._wanted, self._offered = self._members()
        self._base: list[Data | None] = []
        self._given: dict[bytes, Given] = {}

    @property
    def output_dtype(self) -> str:
        """The dtype of the output tensor."""
        return self._inputs.output_dtype or self._inputs.dtype

    def fitting(self, found: Kept) -> tuple[Accumulator | None, str]:
        """Return kept sums that were made for this tensor, or why there are none.

        Their planes are still to be looked at.
        """
        if found.sums.made_for != self._made_for:
            return None, "the sums kept were made for another recipe or base"
        if not found.sums.fits(self._sums, self._inputs):
            return None, "the sums kept are on another grid"
        return found.sums, ""

    def gone_on(self, old: Accumulator) -> tuple[Accumulator | None, str]:
        """Return the sums that follow from old ones, or why none do."""
        self._inputs = replace(self._inputs, exponent=old.exponent)
        leave, join = self.changes(old)
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

    def ends_alike(self, old: Accumulator, new: Accumulator, last: Last) -> bool:
        """Tell whether the last output is also that of the new sums."""
        if old.part is not new.part or last.dtype != self.output_dtype:
            return False
        before = [share.weight for share in old.shares]
        inputs = replace(self._inputs, weights=tuple(before))
        return self._sums.ending(inputs, old.shares) == self._ending(new)

    def finishing(self, sums: Accumulator) -> Callable[[Planes, range], Data]:
        """Return what makes a part of the output of that part's planes."""
        ending = self._ending(sums)
        base = self._read_base() if self._sums.reads_base(ending) else None
        inputs = replace(self._inputs, base=base)

        def finish(planes: Planes, part: range) -> Data:
            return self._sums.finish(inputs, planes, sums.grid, ending, part)

        return finish

    def changes(self, old: Accumulator | None) -> tuple[Counter[bytes], Counter[bytes]]:
        """Return the keys of who leaves old sums, and of who joins them."""
        counts = old.counts if old else Counter[bytes]()
        return counts - self._wanted, self._wanted - counts

    def reads(self, old: Accumulator | None) -> Reads:
        """Return the blobs that making the output of old sums reads; with None, of none.

        As far as this can be told without reading: what leaves may be gone, and a factor
        found in the values may end the old sums.
        """
        found: list[tuple[BlobId, int]] = []
        base = old is None and self._inputs.exponent is None
        said = set()
        for member, joins in self._movers(old):
            change = change_of_key(member.said, self._entry)
            alone = member.said == self._entry.blob
            tau = not isinstance(change, Whole)
            base |= alone or (tau and joins)
            base |= bool(member.weight) and (self._sums.of_task_vectors or tau)
            if not alone and encode(member.said) not in said:
                said.add(encode(member.said))
                found += [(e.blob, e.size) for e in parts_of(change)]
        if (base or self.ends_on_base()) and self._on_base:
            found.append((self._entry.blob, self._entry.size))
        return tuple(found)

    def is_idle(self, old: Accumulator) -> bool:
        """Tell whether those who leave and join bring nothing, so that nobody is read."""
        return not any(self._movers(old))

    def _movers(self, old: Accumulator | None) -> Iterator[tuple[Member, bool]]:
        """Yield those who are read: who leaves, and who joins (True)."""
        for keys, joins in zip(self.changes(old), (False, True), strict=True):
            for key in keys:
                member = member_of_key(key)
                alone = member.said == self._entry.blob
                if member.weight:
                    reads = not (alone and self._sums.of_task_vectors)
                else:
                    reads = joins and not alone
                if reads:
                    yield member, joins

    @property
    def _on_base(self) -> bool:
        return self._plan.frames[self._name].ground == "base"

    @property
    def rows(self) -> int:
        """How many planes there are."""
        exponent = 0 if self._inputs.exponent is None else self._inputs.exponent
        return self._sums.rows(self._sums.grid(exponent, self._inputs.dtype))

    def ends_on_base(self) -> bool:
        """Tell whether the end of the sums takes the base's tensor."""
        if self._sums.of_task_vectors:
            return True
        shares = [self._expected_share(key) for key in self._wanted.elements()]
        return self._sums.reads_base(self._sums.ending(self._inputs, shares))

    def _expected_share(self, key: bytes) -> Share:
        """Return what a member of a sum of tensors counts; no byte of it matters."""
        member = member_of_key(key)
        if not member.weight:
            return Share(0)
        change = change_of_key(member.said, self._entry)
        tau = not isinstance(change, Whole)
        data: Given = np.zeros(0, np.float32) if tau else b""
        values = self._setting.values_of(member.own)
        term = Term(data, member.weight, ContentId(member.content), self._name, values)
        return unchanged(self._sums, self._inputs, term)

    def _ending(self, sums: Accumulator) -> Ending:
        self._check_wide(sums)
        return self._sums.ending(self._inputs, sums.shares)

    def _check_wide(self, sums: Accumulator) -> None:
        """Refuse more terms than a sum may have, where some are of another dtype.

        A form counts all of them as of the base's dtype, of which products are fewer.
        """
        if self._sums.of_task_vectors:
            return  # of one dtype, whatever the models are
        terms = []
        for key, (share, count) in sums.members.items():
            change = change_of_key(member_of_key(key).said, self._entry)
            dtype = change.entry.dtype if isinstance(change, Whole) else "F32"
            terms += [(share.units(), SIGNIFICAND_BITS[dtype])] * count
        check_sum(terms, self._label)

    def _members(self) -> tuple[Counter[bytes], dict[bytes, ContentId]]:
        """Return what the sums should hold, and who offers each member."""
        wanted: Counter[bytes] = Counter()
        offered: dict[bytes, ContentId] = {}
        draws = self._plan.strategy.draws
        setting = self._setting
        told = zip(
            self._plan.contributions,
            self._plan.changes,
            setting.weights,
            setting.own,
            strict=True,
        )
        for contribution, changes, weight, own in told:
            change = changes.get(self._name)
            said = key_of(change, self._entry)
            content = contribution.content if draws else b""
            member = Member(said, weight, own, content)
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
        values = self._setting.values_of(member.own)
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
        [list(pair) for pair in plan.settings.of_tensor(name).parameters],
        frame.entry.dtype,
        list(frame.entry.shape),
        stands_on(frame),
        keyed,
    ]
    return digest_value(Domain.SUMS, value)
