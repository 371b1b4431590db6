"""The hash trie, by example; its laws are in tests/properties/test_tries.py."""

from itertools import permutations

import pytest

from crdtmerge.digest import Domain, digest
from crdtmerge.trie import LEAF_MAX, Inner, Leaf, Trie
from tests.properties.oracle import trie_root


def ids(count: int) -> list[bytes]:
    """Return digests that look random."""
    return [digest(Domain.RECORD, n.to_bytes(4, "big")) for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 33, 300, 3000])
def test_root_follows_the_shape_rule(count: int) -> None:
    """Built, inserted or left over after deletes: the root of the naive reading."""
    members, others = ids(count + 40)[:count], ids(count + 40)[count:]
    expected = trie_root(members)
    assert Trie.build(members).root == expected
    assert Trie().insert(members).root == expected
    assert Trie().insert(others).insert(members).delete(others).root == expected


@pytest.mark.parametrize("count", [0, 3, 16, 17, 64, 65, 256])
def test_what_is_left_of_many_has_its_own_root(count: int) -> None:
    """Nodes that held more than a bucket collapse on the way down, at each size."""
    members = ids(300)
    left = Trie.build(members).delete(members[count:])
    assert left.root == trie_root(members[:count])
    assert left.node == Trie.build(members[:count]).node


def test_seventeenth_digest_splits_and_its_delete_collapses() -> None:
    """Sixteen are a leaf, seventeen an inner node, sixteen again the same leaf."""
    members = ids(LEAF_MAX + 1)
    full = Trie.build(members[:-1])
    split = full.insert(members[-1:])
    assert isinstance(full.node, Leaf)
    assert isinstance(split.node, Inner)
    for gone in members:
        left = split.delete([gone])
        assert isinstance(left.node, Leaf)
        assert left.root == trie_root([m for m in members if m != gone])


def test_deep_path_collapses_to_the_top() -> None:
    """Seventeen digests that differ in the last nibbles make 62 levels, then none."""
    members = [bytes(31) + bytes([n]) for n in range(LEAF_MAX + 1)]
    trie = Trie().insert(members)
    assert trie.root == trie_root(members)
    node, depth = trie.node, 0
    while isinstance(node, Inner):
        node, depth = node.children[0], depth + 1
    assert depth == 63
    assert trie.delete(members[-1:]).node == Leaf(0, tuple(members[:-1]))


def test_order_does_not_matter() -> None:
    """Every order of a few, around a split, gives one root."""
    few, rest = ids(20)[:4], ids(20)[4:]
    roots = {Trie.build(rest).insert(order).root for order in permutations(few)}
    assert roots == {trie_root(ids(20))}


def test_absent_and_present_digests_change_nothing() -> None:
    """Inserting what is there and deleting what is not give the same nodes."""
    members = ids(100)
    trie = Trie.build(members)
    assert trie.insert(members).node is trie.node
    assert trie.insert([]).node is trie.node
    assert trie.insert(members[:1]).node is trie.node
    assert trie.delete(ids(120)[100:]).node is trie.node
    assert Trie().delete(members).root == Trie().root


def test_insert_shares_what_did_not_change() -> None:
    """One insert makes new nodes on one path only, so that old versions stay cheap."""
    trie = Trie.build(ids(3000))
    after = trie.insert(ids(3001)[-1:])
    assert isinstance(trie.node, Inner)
    assert isinstance(after.node, Inner)
    pairs = zip(trie.node.children, after.node.children, strict=True)
    assert sum(a is b for a, b in pairs) == 15
    assert len(trie) == 3000
    several = trie.insert(ids(3002)[-2:])
    assert isinstance(several.node, Inner)
    pairs = zip(trie.node.children, several.node.children, strict=True)
    assert sum(a is b for a, b in pairs) == 14


def test_roots_tell_depth_and_kind_apart() -> None:
    """No leaf passes for an inner node, nor for a leaf elsewhere."""
    assert Leaf(0, ()).hash != Leaf(1, ()).hash
    children = tuple(Leaf(1, ()) for _ in range(16))
    hashes = b"".join(child.hash for child in children)
    assert Inner(0, children).hash != Leaf(0, (hashes,)).hash


def test_descent_ends_at_leaves() -> None:
    """Beyond a leaf there is no node, but the digests below a prefix are found."""
    members = ids(40)
    trie = Trie.build(members)
    first = members[0]
    long = tuple(int(digit, 16) for digit in first.hex())
    assert trie.at(()) is trie.node
    assert trie.at(long) is None
    assert trie.below(long) == [first]
    assert trie.below(()) == sorted(members)


def test_prefix_longer_than_a_digest_finds_nothing() -> None:
    """A peer chooses prefixes; one of 65 nibbles is answered, not a crash."""
    first = ids(1)[0]
    long = tuple(int(digit, 16) for digit in first.hex())
    assert Trie.build([first]).below((*long, 0)) == []
