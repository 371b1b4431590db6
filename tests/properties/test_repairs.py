"""A repair of any set from any other finds what is lacking: no more, no less.

The oracle is a difference of Python sets. Ids share prefixes as long as a repair believes
in, far beyond what anybody could grind, so that tries are deep and uneven.
"""

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.digest import DIGEST_BYTES, Domain, digest
from crdtmerge.sync.compare import ClueDescent, compare, first_prefixes
from crdtmerge.sync.messages import (
    SALT_BYTES,
    CompareReply,
    CompareRequest,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.reconcile import REPAIR_DEPTH_MAX, WholeDescent, answer
from crdtmerge.trie import Trie
from nodes.convert import decode, encode

SPACE = bytes(32)
SHARED_MAX = REPAIR_DEPTH_MAX // 2 - 1
"""Bytes that ids of a cluster share."""


@st.composite
def clusters(draw: st.DrawFn) -> list[bytes]:
    """Draw ids, those of each cluster with the same first bytes."""
    ids: list[bytes] = []
    for number in range(draw(st.integers(1, 3))):
        shared = bytes([draw(st.integers(0, 2))]) * draw(st.integers(0, SHARED_MAX))
        for item in range(draw(st.integers(0, 120))):
            tail = digest(Domain.SEED, bytes([number, item]))
            ids.append((shared + tail)[:DIGEST_BYTES])
    return ids


@st.composite
def pairs(draw: st.DrawFn) -> tuple[set[bytes], set[bytes]]:
    """Draw two sets that share most, little or nothing."""
    ids = draw(clusters())
    modulus = draw(st.sampled_from([2, 3, 50]))
    mine, its = draw(st.integers(0, modulus - 1)), draw(st.integers(0, modulus))
    ours = {i for n, i in enumerate(ids) if n % modulus != mine}
    theirs = {i for n, i in enumerate(ids) if n % modulus != its}
    return ours, theirs


gaps = st.sampled_from([0, 40, 9_000, 2**63 - 1])


@given(pairs(), gaps, st.binary(min_size=SALT_BYTES, max_size=SALT_BYTES))
def test_a_comparison_finds_what_is_lacking(
    sets: tuple[set[bytes], set[bytes]], gap: int, salt: bytes
) -> None:
    """By clues, with every message as it travels, wherever a claim makes it begin."""
    ours, theirs = (Trie.build(ids) for ids in sets)
    descent = ClueDescent(first_prefixes(len(ours), gap), salt=salt)
    while question := descent.question(SPACE, ours):
        asked = decode(encode(question))
        assert isinstance(asked, CompareRequest)
        covered, found = compare(theirs, asked.salt, asked.sections)
        reply = decode(encode(CompareReply(SPACE, tuple(found), covered)))
        assert isinstance(reply, CompareReply)
        descent.take(ours, reply)
    assert set(descent.lacking) == sets[1] - sets[0]


@given(pairs(), st.integers(1, 40))
def test_a_repair_with_whole_hashes_finds_the_same(
    sets: tuple[set[bytes], set[bytes]], fitting: int
) -> None:
    """As the version before speaks, with answers cut anywhere."""
    ours, theirs = (Trie.build(ids) for ids in sets)
    descent = WholeDescent()
    while question := descent.question(SPACE, ours):
        asked = decode(encode(question))
        assert isinstance(asked, TrieRequest)
        nodes = tuple(answer(theirs, asked.prefixes))[:fitting]
        reply = decode(encode(TrieReply(SPACE, nodes)))
        assert isinstance(reply, TrieReply)
        descent.take(ours, reply)
    assert set(descent.lacking) == sets[1] - sets[0]
