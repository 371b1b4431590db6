"""Two sets of ids that differ in a known way. Owns how they are drawn."""

from dataclasses import dataclass
from functools import cached_property

from crdtmerge.digest import Domain, digest
from crdtmerge.trie import Trie


@dataclass(frozen=True)
class Pair:
    """The sets of two sides: what each lacks of the other's is known."""

    ours: Trie
    theirs: Trie
    we_lack: frozenset[bytes]
    they_lack: frozenset[bytes]

    @cached_property
    def differences(self) -> int:
        """How many ids one side has alone."""
        return len(self.we_lack) + len(self.they_lack)


class Ids:
    """Ids as records have them, and one trie of all, of which pairs are made."""

    def __init__(self, count: int) -> None:
        """Make `count` ids."""
        self.all = [
            digest(Domain.RECORD, number.to_bytes(8, "little"))
            for number in range(count)
        ]
        self.trie = Trie.build(self.all)
        assert self.trie.root

    def pair(self, differences: int, *, both: bool) -> Pair:
        """Return sets of which we lack `differences`, or with `both` each a half."""
        we_lack = self.all[: differences // 2 if both else differences]
        they_lack = self.all[differences // 2 : differences] if both else []
        pair = Pair(
            self._without(we_lack),
            self._without(they_lack),
            frozenset(we_lack),
            frozenset(they_lack),
        )
        assert pair.ours.root != pair.theirs.root or not differences
        return pair

    def _without(self, left_out: list[bytes]) -> Trie:
        if len(left_out) < len(self.all) // 20:
            return self.trie.delete(left_out)
        dropped = set(left_out)
        return Trie.build(i for i in self.all if i not in dropped)
