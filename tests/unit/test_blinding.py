"""Members read who announces itself; to others it is a random number."""

import random

from crdtmerge.bodies import SpaceId
from nodes.blinding import MARK_BYTES, MARKS, NONCE_BYTES, SIGN_BYTES, sign_of, whose

ONE, TWO = SpaceId(b"1" * 32), SpaceId(b"2" * 32)
NODES = [bytes([n]) * 32 for n in range(1, 40)]


def test_members_of_any_space_in_common_read_it_and_others_do_not() -> None:
    """Whoever knows one of its spaces finds the node among its members."""
    sign = sign_of(NODES[3], [ONE, TWO], random.Random(1))
    assert whose(sign, {ONE: NODES}) == NODES[3]
    assert whose(sign, {SpaceId(b"x" * 32): NODES, TWO: NODES}) == NODES[3]
    assert whose(sign, {SpaceId(b"x" * 32): NODES}) is None
    assert whose(sign, {ONE: NODES[4:]}) is None  # it is no member any more


def test_no_two_signs_have_anything_in_common() -> None:
    """They cannot be linked, and tell neither of keys nor how many spaces there are."""
    rng = random.Random(2)
    signs = [sign_of(NODES[0], [ONE] * bool(n % 2), rng) for n in range(50)]
    pieces = [
        sign[start : start + MARK_BYTES]
        for sign in signs
        for start in range(0, SIGN_BYTES, MARK_BYTES)
    ]
    assert len(set(pieces)) == len(pieces)
    assert {len(sign) for sign in signs} == {NONCE_BYTES + MARKS * MARK_BYTES}
    places = {
        (s.index(mark) - NONCE_BYTES) // MARK_BYTES
        for s in signs[1::2]
        for mark in [_mark_in(s)]
    }
    assert len(places) > MARKS // 2  # the true mark has no place of its own


def _mark_in(sign: bytes) -> bytes:
    """Return the mark by which ONE knows the node, by trying each alone."""
    nonce = sign[:NONCE_BYTES]
    for start in range(NONCE_BYTES, SIGN_BYTES, MARK_BYTES):
        mark = sign[start : start + MARK_BYTES]
        alone = nonce + mark + bytes(SIGN_BYTES - NONCE_BYTES - MARK_BYTES)
        if whose(alone, {ONE: NODES}):
            return mark
    raise AssertionError


def test_with_many_spaces_each_gets_its_turn() -> None:
    """Nine spaces do not fit; signs that follow each other cover them."""
    spaces = [SpaceId(bytes([n]) * 32) for n in range(9)]
    rng = random.Random(3)
    signs = [sign_of(NODES[0], spaces, rng) for _ in range(20)]
    for space in spaces:
        assert any(whose(sign, {space: NODES}) for sign in signs)


def test_what_is_no_sign_is_nobody_s() -> None:
    """Of another length, or random: it names nobody."""
    rng = random.Random(4)
    for size in (0, SIGN_BYTES - 1, SIGN_BYTES + 1):
        assert whose(rng.randbytes(size), {ONE: NODES}) is None
    assert all(
        whose(rng.randbytes(SIGN_BYTES), {ONE: NODES}) is None for _ in range(50)
    )
