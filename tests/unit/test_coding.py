"""Chunks as they travel: what is encoded against what, and whose fault a failure is."""

import pytest

from crdtmerge.digest import BlobId
from crdtmerge.encodings import Form, form_of
from crdtmerge.errors import ContentMissingError, MalformedChunkError
from nodes.coding import ACCEPTED, Encoder, OwnBaseError, decoded
from nodes.twins import Twin

BASE = bytes(range(256)) * 64
TUNED = bytes(b ^ (i % 64 == 0) for i, b in enumerate(BASE))
TWIN, OTHER = BlobId(b"t" * 32), BlobId(b"o" * 32)


def read(blob: BlobId, _: int) -> bytes:
    """Return the one chunk of the base; nothing else is here."""
    if blob != TWIN:
        raise ContentMissingError("not here")
    return BASE


def test_a_chunk_encoded_against_the_twin_comes_back() -> None:
    """In far fewer bytes."""
    encoder = Encoder.of(Twin(2, TWIN), ACCEPTED, TWIN, read)
    assert encoder is not None
    assert encoder.form is Form.DIFFERENCE
    sent = encoder.encoded(0, TUNED)
    assert len(sent) < len(TUNED) // 4
    assert decoded(sent, 0, len(TUNED), TWIN, read) == TUNED


@pytest.mark.parametrize("against", [b"", OTHER])
def test_what_a_peer_names_is_not_encoded_against(against: bytes) -> None:
    """Only our own twin is: else it would learn of any blob that we have."""
    encoder = Encoder.of(Twin(2, TWIN), ACCEPTED, against, read)
    assert encoder is not None
    assert encoder.form is Form.PLANES
    without = Encoder.of(Twin(2, None), ACCEPTED, against, read)
    assert without is not None
    assert without.form is Form.PLANES


def test_only_forms_that_the_peer_accepts_are_sent() -> None:
    """A later version may know more, an earlier one less."""
    assert Encoder.of(Twin(2, TWIN), b"", TWIN, read) is None
    assert Encoder.of(Twin(2, TWIN), bytes([200]), TWIN, read) is None
    assert Encoder.of(None, ACCEPTED, TWIN, read) is None
    planes = Encoder.of(Twin(2, TWIN), bytes([Form.PLANES]), TWIN, read)
    assert planes is not None
    assert form_of(planes.encoded(0, TUNED)) is Form.PLANES


def test_a_base_that_cannot_be_read_is_no_fault_of_the_sender() -> None:
    """Its chunks are asked for again as they are; a malformed one is its own fault."""
    encoder = Encoder.of(Twin(2, TWIN), ACCEPTED, TWIN, read)
    assert encoder is not None
    sent = encoder.encoded(0, TUNED)
    with pytest.raises(OwnBaseError):
        decoded(sent, 0, len(TUNED), OTHER, read)
    with pytest.raises(MalformedChunkError):
        decoded(sent[:-1], 0, len(TUNED), TWIN, read)


def test_a_sender_without_its_base_sends_chunks_as_they_are() -> None:
    """Nothing fails for it."""
    gone = Encoder(Form.DIFFERENCE, Twin(2, OTHER), read)
    assert gone.encoded(0, TUNED) == TUNED
