"""Sets made to look alike: what fools a sum of ids does not fool the root of the trie."""

from functools import reduce
from operator import xor
from typing import Final

from crdtmerge.record import SignedRecord
from crdtmerge.trie import Trie
from tests.attacks.fortress import Fortress
from tests.attacks.siege import Siege
from tests.properties.cast import CARL, CLEO, unknown

BITS: Final = 256
COUNT: Final = BITS + 2
"""So many ids have a subset of even size whose sum is zero, whatever they are."""


def fingerprint(ids: list[bytes]) -> int:
    """Return the sum of ids modulo two: what a naive protocol would compare."""
    return reduce(xor, (int.from_bytes(i, "big") for i in ids), 0)


def zero_subset(ids: list[bytes]) -> list[bytes]:
    """Return an even number of ids whose sum is zero, by elimination over GF(2)."""
    rows: dict[int, tuple[int, int]] = {}
    for place, item in enumerate(ids):
        vector, chosen = int.from_bytes(item, "big") << 1 | 1, 1 << place
        while vector and vector.bit_length() in rows:
            other, others = rows[vector.bit_length()]
            vector, chosen = vector ^ other, chosen ^ others
        if not vector:
            return [item for n, item in enumerate(ids) if chosen >> n & 1]
        rows[vector.bit_length()] = vector, chosen
    raise AssertionError("there is always one")


def test_fingerprint_collision_sets(fortress: Fortress) -> None:
    """Two sets of records of one size and one sum, made for real: their roots differ.

    A node that holds one half is offered the other, by a peer whose sum is the same. It
    is not taken for equal, and every record comes.
    """
    made: dict[bytes, SignedRecord] = {}
    for _ in range(COUNT):
        signed = fortress.pen.write(CLEO, unknown("junk"))
        made[signed.record.id] = signed
    subset = zero_subset(list(made))
    half = len(subset) // 2
    ours, theirs = subset[:half], subset[half:]
    assert len(ours) == len(theirs) > 16
    assert fingerprint(subset) == 0
    assert fingerprint(ours) == fingerprint(theirs)
    shared = [key for key in made if key not in subset]
    assert Trie.build(shared + ours).root != Trie.build(shared + theirs).root
    assert Trie.build(shared + subset).root != Trie.build(shared).root

    spaces = fortress.spaces()
    spaces.commit(fortress.space, [made[key] for key in shared + ours])
    missing = [made[key] for key in theirs]

    async def attack(siege: Siege) -> None:
        await siege.feeds(CARL, *missing)

    fortress.takes(missing, attack)
    assert set(fortress.pen.known) <= set(
        fortress.spaces().opset(fortress.space).signed
    )
