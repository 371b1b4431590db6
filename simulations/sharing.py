"""Sets that many nodes of one run hold, computed once: what lets a thousand run at all.

Owns the sets that were reached in a run, and the spaces of a node that looks them up. A set
is a value that cannot change, and the records in it decide what it is; so nodes that hold
the same records may hold the same value, whatever the order in which these came. Every node
still keeps its own records in its own order, and checks the signature of each that it
takes. Does not own whether that assumption holds: `crowd` computes sets anew, from what
single nodes keep, and compares.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from weakref import WeakValueDictionary

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.orset import OpSet
from crdtmerge.record import SignedRecord
from nodes.batches import chains_first
from nodes.sets import Nodes, Who, who
from nodes.spaces import Spaces

STEPS_MAX: Final = 1024
"""Steps from set to set that are remembered; those that were not taken for longest go."""
WHO_MAX: Final = 64
"""Lists of who takes part that are remembered, likewise."""

Step = tuple[bytes, tuple[RecordId, ...]]
"""The root of a set, and the records that were added to it, in their order."""


@dataclass
class Inserts:
    """The sets that nodes hold, by root, and the last steps between them."""

    steps: dict[Step, OpSet] = field(default_factory=dict)
    held: WeakValueDictionary[bytes, OpSet] = field(default_factory=WeakValueDictionary)
    known: dict[int, Who] = field(default_factory=dict)
    """Who takes part, by the identity of the view's nodes, which the value holds."""
    computed: int = 0
    """How many sets were computed, and not found."""

    def insert(self, before: OpSet, batch: Sequence[SignedRecord]) -> OpSet:
        """Return the set with `batch` joined in.

        Raises:
            RemoteError: a record breaks a rule.
        """
        step = before.root, tuple(signed.record.id for signed in batch)
        after = self.steps.pop(step, None)
        if after is None:
            self.computed += 1
            found = before.insert(batch)
            after = self.held.setdefault(found.root, found)
            after.view  # noqa: B018  computed once, for all who hold it
        self.steps[step] = after  # at the end: it is the last that was taken
        if len(self.steps) > STEPS_MAX:
            del self.steps[next(iter(self.steps))]
        return after

    def who(self, nodes: Nodes) -> Who:
        """Return who takes part in one space with these nodes."""
        found = self.known.pop(id(nodes), None) or who([nodes], {})
        self.known[id(nodes)] = found
        if len(self.known) > WHO_MAX:
            del self.known[next(iter(self.known))]
        return found


class SharedSpaces(Spaces):
    """The spaces of one node, whose sets are looked up before they are computed."""

    inserts: Inserts
    on_taken: Callable[[tuple[RecordId, ...]], None] | None = None
    """Hears of records that are in a set from now on."""

    def share(self, inserts: Inserts) -> None:
        """Look sets up among `inserts`, those too that were read at the start."""
        self.inserts = inserts
        for space, opset in self._opsets.items():
            self._opsets[space] = inserts.held.setdefault(opset.root, opset)

    def commit(
        self, space: SpaceId, batch: Sequence[SignedRecord]
    ) -> tuple[RecordId, ...]:
        """Join `batch`; return the ids that were new.

        Raises:
            RemoteError: a record breaks a rule; nothing was stored.
            NotImplementedError: an epoch lists records: nobody here forgets any.
        """
        with self.lock:
            before = self._opsets.get(space, OpSet(space))
            new = {s.record.id: s for s in batch if s.record.id not in before}
            if new:
                ordered = chains_first(new)
                after = self.inserts.insert(before, ordered)
                if len(after.listing):
                    raise NotImplementedError("shared sets do not shrink")
                self.records.append(space, ordered)
                self._opsets[space] = after
                if self.on_taken is not None:
                    self.on_taken(tuple(new))
            return tuple(new)

    def _who(self) -> Who:
        """Return who takes part: of one space alone, for all nodes that know the same."""
        spaces = self.all()
        if len(spaces) != 1 or self.added:
            return super()._who()
        return self.inserts.who(self.view(spaces[0]).nodes)
