"""Chunks that were encoded once are decoded by every later version."""

import json
from pathlib import Path

import pytest

from crdtmerge.digest import chunk_digest
from crdtmerge.encodings import Form, decode, form_of
from crdtmerge.encodings.planes import Mode
from tests.oracles import encoded_chunks

GOLDEN = json.loads((Path(__file__).parent / "encodings.json").read_text())


def planes_of(data: bytes) -> set[int]:
    """Return the modes of the first bytes of planes, where they can be told."""
    return {data[1]} if data[0] >> 4 != Form.PLAIN else set()


@pytest.mark.parametrize("vector", GOLDEN, ids=[vector["title"] for vector in GOLDEN])
def test_old_encodings_are_read(vector: dict[str, str]) -> None:
    """Ours and the oracle give the bytes whose digest was once written down."""
    data, length = bytes.fromhex(vector["data"]), int(vector["length"])
    base = bytes.fromhex(vector["base"]) if vector["base"] else None
    for raw in (
        decode(data, length=length, against=base),
        encoded_chunks.decode(data, length, base),
    ):
        assert chunk_digest(raw).hex() == vector["digest"]


def test_vectors_have_every_form_and_mode() -> None:
    """A form without a vector could change unseen."""
    chunks = [bytes.fromhex(vector["data"]) for vector in GOLDEN]
    assert {form_of(data) for data in chunks} == set(Form)
    assert {data[0] & 15 for data in chunks if form_of(data) in {4, 5}} == {0, 1, 2, 3}
    assert set().union(*map(planes_of, chunks)) == set(Mode)
