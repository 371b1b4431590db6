"""Proofs of membership: true ones are checked by the root alone, others are refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.codec import Value, encode
from crdtmerge.errors import MalformedProofError
from crdtmerge.membership import (
    MEMBERSHIP_BYTES_MAX,
    Membership,
    Step,
    check_membership,
    prove_membership,
    read_membership,
)
from crdtmerge.trie import Trie
from tests.properties.oracle import trie_root
from tests.properties.test_tries import items, sets
from tests.unit.test_trie import ids

MANY = ids(1500)
TRIE = Trie.build(MANY)


@given(sets, items)
def test_a_proof_says_what_is_so(members: list[bytes], probe: bytes) -> None:
    """Of any set and any id, by the root that the naive reading gives."""
    proof = prove_membership(Trie.build(members), probe)
    read = read_membership(proof.to_bytes())
    assert read == proof
    root = trie_root(sorted(set(members)))
    assert check_membership(root, probe, read) == (probe in members)


@given(sets, items, st.data())
def test_a_changed_proof_is_refused(
    members: list[bytes], probe: bytes, data: st.DataObject
) -> None:
    """Whatever bit of it was flipped: it is no proof, or none of this root."""
    proof = bytearray(prove_membership(Trie.build(members), probe).to_bytes())
    at = data.draw(st.integers(0, 8 * len(proof) - 1))
    proof[at // 8] ^= 1 << at % 8
    with pytest.raises(MalformedProofError):
        check_membership(
            trie_root(sorted(set(members))), probe, read_membership(bytes(proof))
        )


def test_every_member_and_some_others_are_told_apart() -> None:
    """The same proof says no of an id of which it says nothing else."""
    root = trie_root(MANY)
    for item in MANY[::50]:
        assert check_membership(root, item, prove_membership(TRIE, item))
    for item in ids(1600)[1500:]:
        assert not check_membership(root, item, prove_membership(TRIE, item))


def test_a_proof_is_of_one_root_and_one_place() -> None:
    """Not of the set before, nor of an id that lies elsewhere."""
    proof = prove_membership(TRIE, MANY[0])
    with pytest.raises(MalformedProofError, match="does not lead to this root"):
        check_membership(Trie.build(MANY[:-1]).root, MANY[0], proof)
    elsewhere = next(i for i in MANY if i[0] >> 4 != MANY[0][0] >> 4)
    with pytest.raises(MalformedProofError, match="another place"):
        check_membership(TRIE.root, elsewhere, proof)


def test_an_inner_node_is_no_leaf_and_cannot_count_too_little() -> None:
    """What would lead to the root by hashes alone has to fit the shape as well."""
    proof = prove_membership(TRIE, MANY[0])
    few = replace(proof.steps[0], count=16)
    with pytest.raises(MalformedProofError, match="counts less"):
        check_membership(
            TRIE.root, MANY[0], replace(proof, steps=(few, *proof.steps[1:]))
        )
    with pytest.raises(MalformedProofError, match="does not lead"):
        check_membership(TRIE.root, MANY[0], replace(proof, steps=proof.steps[:-1]))


HASHES = b"".join(MANY[:15])
MALFORMED: dict[str, Value] = {
    "no list": 7,
    "no digests": [[]],
    "half a digest": [[], b"x" * 31],
    "too many digests": [[], b"".join(sorted(MANY[:17]))],
    "digests out of order": [[], b"".join(sorted(MANY[:2], reverse=True))],
    "a digest twice": [[], MANY[0] * 2],
    "a step of two": [[[17, 0]], b""],
    "a step with fewer hashes than it says": [[[17, 0x7FFF, HASHES[32:]]], b""],
    "a step with more hashes than it says": [[[17, 1, HASHES]], b""],
    "sixteen others": [[[17, 0xFFFF, HASHES + HASHES[:32]]], b""],
    "no count": [[[-1, 0, b""]], b""],
    "too deep": [[[17, 0, b""]] * 64, b""],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_no_proof_is_refused(what: str) -> None:
    """By its form alone."""
    with pytest.raises(MalformedProofError):
        read_membership(encode(MALFORMED[what]))


def test_a_proof_has_a_size() -> None:
    """The deepest that can be made is read; no longer text is looked at."""
    deep = [bytes(31) + bytes([n]) for n in range(17)]
    proof = prove_membership(Trie.build(deep), deep[0])
    assert len(proof.steps) == 63
    assert read_membership(proof.to_bytes()) == proof
    full = Membership((Step(2**62, tuple(MANY[:15])),) * 63, tuple(sorted(MANY[:16])))
    assert read_membership(full.to_bytes()) == full
    with pytest.raises(MalformedProofError):
        read_membership(encode([[], bytes(MEMBERSHIP_BYTES_MAX)]))
    assert len(prove_membership(TRIE, MANY[0]).to_bytes()) < 2000
