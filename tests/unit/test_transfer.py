"""A fetched blob is parsed strictly, whatever the source sends."""

import pytest

from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id_of, chunk_digests
from crdtmerge.errors import CorruptBlobError, MalformedMessageError, NotFoundError
from crdtmerge.sync.runs import Run
from crdtmerge.sync.transfer import Incoming, Piece, Wanted, announce

ALL = Wanted(True, (Run(0, 1 << 20),))
REST = Wanted(False, (Run(0, 1 << 20),))


def _blob(size: int) -> tuple[bytes, BlobId]:
    data = bytes(i * 7 % 251 for i in range(size % 4096)) * 1
    data = (data or b"x") * (size // max(1, len(data or b"x")) + 1)
    return data[:size], blob_id_of(data[:size])


def _reply(data: bytes, *, listed: bool = True) -> list[bytes]:
    head = announce(len(data), chunk_digests(data), want_chunk_list=listed)
    starts = range(0, len(data), CHUNK_BYTES)
    return [*head, *(data[s : s + CHUNK_BYTES] for s in starts)]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_a_true_reply_arrives_whole(size: int) -> None:
    """Every chunk comes out once, in order, and the list is the blob's."""
    data, blob = _blob(size)
    incoming = Incoming(blob, size, ALL)
    parts = [incoming.take(message) for message in _reply(data)]
    chunks = [part for part in parts if part is not None]
    assert b"".join(chunk.data for chunk in chunks) == data
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    assert not any(chunk.encoded for chunk in chunks)
    assert incoming.due.left == 0
    assert incoming.chunks == chunk_digests(data)


def test_a_resumed_reply_begins_where_it_stopped() -> None:
    """With the list known, only the missing chunks are taken."""
    data, blob = _blob(3 * CHUNK_BYTES)
    wanted = Wanted(False, (Run(2, 1),))
    incoming = Incoming(blob, len(data), wanted, chunk_digests(data))
    head, *chunks = _reply(data, listed=False)
    assert incoming.take(head) is None
    assert incoming.take(chunks[2]) == Piece(2, chunks[2], CHUNK_BYTES, encoded=False)
    with pytest.raises(MalformedMessageError):
        incoming.take(chunks[2])


def test_more_than_was_signed_is_not_taken() -> None:
    """The source is not called a liar, for the manifest's author may be wrong."""
    data, blob = _blob(100)
    with pytest.raises(NotFoundError):
        Incoming(blob, 99, ALL).take(_reply(data)[0])


def test_a_size_below_the_signed_one_must_be_proved() -> None:
    """The chunk list proves it; without a proof it is a lie."""
    data, blob = _blob(100)
    size, listed, chunk = _reply(data)
    incoming = Incoming(blob, CHUNK_BYTES + 1, ALL)
    assert incoming.take(size) is None
    assert incoming.take(listed) is None
    assert incoming.take(chunk) == Piece(0, data, 100, encoded=False)
    incoming = Incoming(blob, CHUNK_BYTES + 1, ALL)
    incoming.take((99).to_bytes(8, "little"))
    with pytest.raises(CorruptBlobError):
        incoming.take(listed)


def test_a_resumed_blob_has_one_size() -> None:
    """Its list was proved before: now another size is a lie."""
    data, blob = _blob(100)
    with pytest.raises(MalformedMessageError):
        Incoming(blob, 100, REST, chunk_digests(data)).take((99).to_bytes(8, "little"))


def test_a_list_comes_in_the_pieces_that_were_agreed() -> None:
    """One byte at a time would hold a fetch for ever, each byte in time."""
    data, blob = _blob(CHUNK_BYTES + 1)
    size, listed, *_ = _reply(data)
    incoming = Incoming(blob, len(data), ALL)
    incoming.take(size)
    with pytest.raises(MalformedMessageError):
        incoming.take(listed[:1])


def test_a_false_chunk_list_is_refused() -> None:
    """A list that does not hash to the blob id is caught before any chunk is taken."""
    data, blob = _blob(2 * CHUNK_BYTES)
    size, listed, *_ = _reply(data)
    incoming = Incoming(blob, len(data), ALL)
    incoming.take(size)
    with pytest.raises(CorruptBlobError):
        incoming.take(listed[:32] + bytes(32))


def test_a_long_list_and_a_short_chunk_are_refused() -> None:
    """Lengths are known beforehand, so nothing can grow."""
    data, blob = _blob(CHUNK_BYTES)
    size, listed, chunk = _reply(data)
    incoming = Incoming(blob, len(data), ALL)
    incoming.take(size)
    with pytest.raises(MalformedMessageError):
        incoming.take(listed * 2)
    incoming = Incoming(blob, len(data), ALL)
    incoming.take(size)
    incoming.take(listed)
    with pytest.raises(MalformedMessageError):
        incoming.take(chunk[:-1])


def test_chunks_come_in_the_order_that_was_asked() -> None:
    """Any runs, in any order; those past the end are not waited for."""
    data, blob = _blob(4 * CHUNK_BYTES + 7)
    runs = (Run(3, 9), Run(0, 1), Run(77, 3))
    incoming = Incoming(blob, len(data), Wanted(False, runs), chunk_digests(data))
    head, *chunks = _reply(data, listed=False)
    incoming.take(head)
    for index in (3, 4, 0):
        piece = incoming.take(chunks[index])
        assert piece is not None
        assert (piece.index, piece.data) == (index, chunks[index])
    with pytest.raises(MalformedMessageError):
        incoming.take(chunks[1])


def test_a_shorter_chunk_is_an_encoding_where_one_was_asked_for() -> None:
    """And nowhere else; none is empty, and none is longer than its chunk."""
    data, blob = _blob(CHUNK_BYTES + 9)
    head, first, last = _reply(data, listed=False)
    runs = (Run(0, 2),)
    for encodings, encoded in ((b"\x02", True), (b"", False)):
        incoming = Incoming(
            blob, len(data), Wanted(False, runs, encodings), chunk_digests(data)
        )
        incoming.take(head)
        if not encoded:
            with pytest.raises(MalformedMessageError):
                incoming.take(first[:-1])
            continue
        assert incoming.take(b"short") == Piece(0, b"short", CHUNK_BYTES, encoded=True)
        for wrong in (b"", last + b"x"):
            with pytest.raises(MalformedMessageError):
                incoming.take(wrong)
        assert incoming.take(last) == Piece(1, last, 9, encoded=False)
