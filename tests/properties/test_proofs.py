"""Laws of proofs: what is proved verifies, and a change of any byte is noticed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.codec import decode, encode
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import EncodingError, MalformedProofError
from crdtmerge.proofs import Proof, Span, proof_from_value, prove, verify

SIZE_MAX = 12 << 10
DOMAINS = st.sampled_from((Domain.CONTENT, Domain.BLOB, Domain.CHUNK))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Domain, bytes, list[Span]]:
    """Draw a domain, an input of some leaves, and up to three places in it."""
    size = draw(st.integers(1, SIZE_MAX))
    data = random.Random(draw(st.integers(0, 9))).randbytes(size)  # short to print
    offsets = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=3))
    spans = [(o, draw(st.integers(1, min(size - o, 2500)))) for o in offsets]
    return draw(DOMAINS), data, spans


@given(cases())
def test_what_is_proved_verifies(case: tuple[Domain, bytes, list[Span]]) -> None:
    """Any places of any input come out as they went in, under the library's digest."""
    domain, data, spans = case
    root, proof = prove(domain, data, spans)
    assert root == digest(domain, data)
    read = proof_from_value(decode(encode(proof.to_value()), 1 << 20), SIZE_MAX)
    assert verify(domain, root, read, spans) == [data[o : o + n] for o, n in spans]


@given(cases(), st.integers(0, 1 << 20), st.integers(1, 255))
def test_a_change_of_any_byte_is_noticed(
    case: tuple[Domain, bytes, list[Span]], at: int, flip: int
) -> None:
    """No byte of a proof's encoding or of the digest can be another."""
    domain, data, spans = case
    root, proof = prove(domain, data, spans)
    encoded = bytearray(encode(proof.to_value()))
    encoded[at % len(encoded)] ^= flip
    with pytest.raises((EncodingError, MalformedProofError)):
        verify(
            domain,
            root,
            proof_from_value(decode(bytes(encoded), 1 << 20), 1 << 40),
            spans,
        )
    other = bytearray(root)
    other[at % len(other)] ^= flip
    with pytest.raises(MalformedProofError):
        verify(domain, bytes(other), proof, spans)


@given(cases(), st.integers(0, SIZE_MAX + 1), st.integers(1, 2500))
def test_a_proof_shows_what_stands_there_or_nothing(
    case: tuple[Domain, bytes, list[Span]], offset: int, size: int
) -> None:
    """Read at a place that it was not made for, a proof gives true bytes or is refused."""
    domain, data, spans = case
    root, proof = prove(domain, data, spans)
    try:
        (shown,) = verify(domain, root, proof, [(offset, size)])
    except MalformedProofError:
        return
    assert shown == data[offset : offset + size]


@given(cases(), st.integers(0, 1 << 20))
def test_no_other_length_fits(
    case: tuple[Domain, bytes, list[Span]], length: int
) -> None:
    """The length that a proof states is that of the input."""
    domain, data, spans = case
    root, proof = prove(domain, data, spans)
    if length != len(data):
        with pytest.raises(MalformedProofError):
            verify(domain, root, Proof(length, proof.leaves, proof.siblings), spans)
