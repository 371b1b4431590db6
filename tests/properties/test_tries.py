"""The trie's root depends on the set alone: every history equals a fresh build."""

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.trie import Inner, Node, Trie
from tests.properties.oracle import trie_root


def item(prefix: int, length: int, number: int) -> bytes:
    """Return a digest of `length` equal nibbles, then a spread, then a number."""
    nibbles = f"{prefix:x}" * length + f"{number % 16:x}" + f"{number:x}".rjust(4, "7")
    return bytes.fromhex(nibbles.ljust(64, "5"))


# Long shared prefixes and few of them: leaves overfill, and deep paths collapse again.
items = st.builds(
    item, st.integers(0, 2), st.sampled_from((0, 1, 2, 9, 58)), st.integers(0, 40)
)
sets = st.integers(0, 90).flatmap(lambda n: st.lists(items, min_size=n, max_size=n))


def nodes_of(node: Node) -> list[Node]:
    """Return every node of a trie."""
    if not isinstance(node, Inner):
        return [node]
    return [node, *(below for child in node.children for below in nodes_of(child))]


@given(sets)
def test_build_equals_the_shape_rule(members: list[bytes]) -> None:
    """A fresh build has the root that a naive reading of the rule gives."""
    assert Trie.build(members).root == trie_root(sorted(set(members)))


@given(st.lists(st.tuples(st.booleans(), sets.map(tuple)), max_size=6))
def test_any_history_equals_a_fresh_build(
    changes: list[tuple[bool, tuple[bytes, ...]]],
) -> None:
    """Inserts and deletes in any order end at the root of what is left."""
    trie, left = Trie(), set[bytes]()
    for inserts, members in changes:
        trie = trie.insert(members) if inserts else trie.delete(members)
        left = left | set(members) if inserts else left - set(members)
        assert trie.root == trie_root(sorted(left))
        assert list(trie) == sorted(left)
        assert len(trie) == len(left)


@given(sets, sets)
def test_insert_then_delete_is_nothing(kept: list[bytes], passing: list[bytes]) -> None:
    """What came and went leaves no trace, though it split leaves on the way."""
    before = Trie.build(kept)
    visitors = sorted(set(passing) - set(kept))
    after = before.insert(visitors).delete(reversed(visitors))
    assert after.root == before.root
    assert after.node == before.node


@given(sets)
def test_a_leaf_holds_at_most_sixteen(members: list[bytes]) -> None:
    """A node is a leaf if and only if at most 16 digests lie below."""
    for node in nodes_of(Trie.build(members).node):
        assert isinstance(node, Inner) == (node.count > 16)


@given(sets, items)
def test_descent_finds_what_lies_below(members: list[bytes], probe: bytes) -> None:
    """`below` gives the digests of a prefix, in order; `in` tells membership."""
    trie = Trie.build(members)
    assert (probe in trie) == (probe in members)
    for depth in (0, 1, 3, 60, 64):
        prefix = tuple(int(digit, 16) for digit in probe.hex()[:depth])
        expected = sorted(
            m for m in set(members) if m.hex()[:depth] == probe.hex()[:depth]
        )
        assert trie.below(prefix) == expected
        node = trie.at(prefix)
        assert node is None or node.count == len(expected)


@given(sets, sets)
def test_equal_roots_mean_equal_sets(one: list[bytes], other: list[bytes]) -> None:
    """Two tries have one root only if they hold the same digests."""
    same = set(one) == set(other)
    assert (Trie.build(one).root == Trie.build(other).root) == same
