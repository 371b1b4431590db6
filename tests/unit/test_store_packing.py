"""Packed blobs: fewer bytes, the same bytes, and never a moment without them."""

import errno
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from crdtmerge import encodings
from crdtmerge.digest import CHUNK_BYTES, BlobId, blob_id_of
from crdtmerge.errors import (
    ContentMissingError,
    CorruptBlobError,
    CrdtMergeError,
    MachineError,
)
from nodes.home import Home, create_home, open_home
from nodes.store import packing
from nodes.store.packing import Order
from tests.disks import CountedDisk
from tests.tunes import base_weights, tuned_weights
from tests.unit.test_store_blobs import files

BASE = base_weights()["layer.weight"].tobytes()
TUNED = tuned_weights(base_weights(), 1)["layer.weight"].tobytes()
SHORT = 1 << 17
OTHER = tuned_weights(base_weights(), 2)["layer.weight"].tobytes()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with new_home(tmp_path / "home") as made:
        yield made


def new_home(path: Path) -> Home:
    """Return a new home with fixed keys."""
    seeds = bytes(32), bytes([1]) * 32
    return create_home(
        path, author_seed=seeds[0], node_seed=seeds[1], generation=bytes(16)
    )


def refer(home: Home, folder: Path) -> tuple[BlobId, Path]:
    """Keep the base where the user has it."""
    path = folder / "base.bin"
    path.write_bytes(b"head" + BASE)
    return home.blobs.reference_range(path, 4, len(BASE)), path


def packed(home: Home, folder: Path) -> tuple[BlobId, Path]:
    """Return a blob that is packed against a base in the user's folder."""
    base, path = refer(home, folder)
    blob = home.blobs.put(TUNED)
    assert home.blobs.packing.pack(Order(blob, 4, base)).form is not None
    return blob, path


def form(home: Home, blob: BlobId) -> str | None:
    """Return how a blob lies there."""
    return home.blobs.rows.form(blob)


def packed_file(home: Home, blob: BlobId) -> Path:
    """Return where the packed file of a blob lies."""
    path = home.blobs.path_of(blob)
    return path.with_name(f"{path.name}.packed")


def leftovers(home: Home) -> set[BlobId]:
    """Return the blobs of which there are files that no row speaks of."""
    return {h.blob for h in home.blobs.holdings() if h.form == "leftover"}


def test_a_packed_blob_takes_fewer_bytes_and_reads_the_same(
    home: Home, tmp_path: Path
) -> None:
    """Whole, chunk by chunk, and after another start; unpacked it is as it was."""
    blob, _ = packed(home, tmp_path)
    assert form(home, blob) == "packed"
    assert not home.blobs.path_of(blob).exists()
    (holding,) = [h for h in home.blobs.holdings() if h.blob == blob]
    assert holding.stored == packed_file(home, blob).stat().st_size
    assert holding.stored < 0.65 * len(TUNED)
    assert bytes(home.blobs.read(blob, len(TUNED))) == TUNED
    home.close()
    with open_home(home.path, write=True) as again:
        assert again.blobs.forget_lost() == 0
        chunks = [again.blobs.read_chunk(blob, i) for i in range(2)]
        assert b"".join(chunks) == TUNED
        assert again.blobs.examination.bad_chunks(blob) == []
        assert again.blobs.packing.unpack(blob) == len(TUNED)
        assert again.blobs.packing.unpack(blob) == 0
        assert form(again, blob) == "own"
        assert again.blobs.path_of(blob).read_bytes() == TUNED
        assert not packed_file(again, blob).exists()
        assert leftovers(again) == set()


def test_what_does_not_pay_stays_raw(home: Home) -> None:
    """Noise saves less than a tenth; nothing of the attempt is left."""
    data = b"".join(blob_id_of(TUNED[i : i + 8]) for i in range(0, 1 << 16, 8))
    blob = home.blobs.put(data)
    before = files(home.path)
    assert before
    assert home.blobs.packing.pack(Order(blob, 4, None)).form is None
    assert home.blobs.packing.estimate(Order(blob, 4, None)).form is None
    assert form(home, blob) == "own"
    assert files(home.path) == before


def test_an_estimate_is_near_and_writes_nothing(home: Home, tmp_path: Path) -> None:
    """By a few chunks it tells what packing then takes, within a twentieth."""
    base, _ = refer(home, tmp_path)
    order = Order(home.blobs.put(TUNED), 4, base)
    guess = home.blobs.packing.estimate(order)
    assert form(home, order.blob) == "own"
    done = home.blobs.packing.pack(order)
    assert guess.form is done.form
    assert abs(guess.after - done.after) < done.after / 20


def test_what_is_packed_takes_one_step_to_read(home: Home, tmp_path: Path) -> None:
    """A base of others is not packed, nor is anything against one that is packed."""
    base = home.blobs.put(BASE)
    blob, other = home.blobs.put(TUNED), home.blobs.put(OTHER)
    assert home.blobs.packing.pack(Order(blob, 4, base)).form is not None
    assert home.blobs.packing.pack(Order(base, 4, None)).form is None
    assert form(home, base) == "own"
    assert home.blobs.packing.pack(Order(blob, 4, base)).before == 0
    against_packed = home.blobs.packing.pack(Order(other, 4, blob))
    assert against_packed.form in {None, encodings.Form.PLANES}
    with home.database.reading() as sql:
        query = "SELECT count(*) FROM blobs WHERE against = ?"
        assert sql.execute(query, [blob]).fetchone() == (0,)
    # The row refuses too, whoever asks: two packings may be under way at once.
    assert not home.blobs.rows.pack(base, None, 1)
    assert not home.blobs.rows.pack(other, blob, 1)


def test_what_others_are_packed_against_is_not_collected(home: Home) -> None:
    """A packed blob pins its base, until it is unpacked."""
    base, blob = home.blobs.put(BASE), home.blobs.put(TUNED)
    home.blobs.packing.pack(Order(blob, 4, base))
    holding = [h for h in home.blobs.holdings() if h.blob == base]
    assert home.blobs.removal.drop(holding) == []
    assert bytes(home.blobs.read(blob, len(TUNED))) == TUNED
    home.blobs.packing.unpack(blob)
    assert home.blobs.removal.drop(holding) == holding
    assert bytes(home.blobs.read(blob, len(TUNED))) == TUNED


def test_damage_inside_a_packed_file_is_found(home: Home, tmp_path: Path) -> None:
    """One flipped bit anywhere, a cut, another blob's file: named, and never returned."""
    blob, _ = packed(home, tmp_path)
    path = packed_file(home, blob)
    good = path.read_bytes()
    for at in (0, 9, 50, 75, 80, 100, 300, len(good) // 2, len(good) - 1):
        bad = bytearray(good)
        bad[at] ^= 4
        path.write_bytes(bad)
        with pytest.raises(CorruptBlobError, match="damaged"):
            home.blobs.read(blob, len(TUNED))
        assert home.blobs.examination.bad_chunks(blob)
    for bad_bytes in (good[:-1], good + b"\x00", b"", good[: len(good) // 2]):
        path.write_bytes(bad_bytes)
        with pytest.raises(CorruptBlobError, match="the index of blob"):
            home.blobs.read(blob, len(TUNED))
        assert home.blobs.examination.bad_chunks(blob) == [0, 1]
    path.write_bytes(good)
    assert bytes(home.blobs.read(blob, len(TUNED))) == TUNED
    assert home.blobs.examination.bad_chunks(blob) == []


def test_the_packed_file_of_another_blob_is_refused(home: Home) -> None:
    """Files that were swapped are whole, and wrong."""
    base, blob, other = (home.blobs.put(data) for data in (BASE, TUNED, OTHER))
    for tuned in (blob, other):
        assert home.blobs.packing.pack(Order(tuned, 4, base)).form is not None
    one, two = packed_file(home, blob), packed_file(home, other)
    swapped = one.read_bytes(), two.read_bytes()
    one.write_bytes(swapped[1])
    two.write_bytes(swapped[0])
    for tuned, data in ((blob, TUNED), (other, OTHER)):
        with pytest.raises(CorruptBlobError):
            home.blobs.read(tuned, len(data))


def test_a_damaged_packed_blob_counts_as_missing_and_comes_back_raw(
    home: Home, tmp_path: Path
) -> None:
    """Brought in again it is raw; the file of before is a leftover that may go."""
    blob, _ = packed(home, tmp_path)
    path = packed_file(home, blob)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert home.blobs.put(TUNED) == blob
    assert form(home, blob) == "own"
    assert bytes(home.blobs.read(blob, len(TUNED))) == TUNED
    assert leftovers(home) == {blob}
    going = [h for h in home.blobs.holdings() if h.form == "leftover"]
    home.blobs.removal.drop(going)
    assert not path.exists()
    assert bytes(home.blobs.read(blob, len(TUNED))) == TUNED


@pytest.mark.parametrize("gone", [False, True], ids=["edited", "removed"])
def test_a_base_that_the_user_changed_is_named(
    home: Home, tmp_path: Path, gone: bool
) -> None:
    """The error says what to do; once the base is back, so is the packed blob."""
    blob, path = packed(home, tmp_path)
    good = path.read_bytes()
    kind: type[CrdtMergeError] = ContentMissingError if gone else CorruptBlobError
    if gone:
        path.unlink()
    else:
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    for read in (
        lambda: home.blobs.read(blob, len(TUNED)),
        lambda: home.blobs.read_chunk(blob, 1),
        lambda: home.blobs.packing.unpack(blob),
    ):
        with pytest.raises(kind, match=rf"packed against another.*{path}") as caught:
            read()
        assert "nothing of the packed blob is lost" in caught.value.hint
        assert "put the file back" in caught.value.hint
    with pytest.raises(CorruptBlobError, match="packed against another"):
        home.blobs.examination.bad_chunks(blob)
    assert form(home, blob) == "packed"
    path.write_bytes(good)
    assert bytes(home.blobs.read(blob, len(TUNED))) == TUNED


def test_an_encoder_that_errs_costs_no_bytes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every chunk is decoded and compared before the raw file goes."""
    blob, base = home.blobs.put(TUNED), home.blobs.put(BASE)
    honest, count = encodings.decode, iter(range(100))

    def wrong(data: bytes, *, length: int, against: bytes | None) -> bytes:
        raw = bytearray(honest(data, length=length, against=against))
        raw[7] ^= next(count)  # right the first time
        return bytes(raw)

    monkeypatch.setattr(packing, "decode", wrong)
    with pytest.raises(CorruptBlobError, match="encoded of chunk 1"):
        home.blobs.packing.pack(Order(blob, 4, base))
    assert form(home, blob) == "own"
    assert bytes(home.blobs.read(blob, len(TUNED))) == TUNED
    assert leftovers(home) == set()
    assert list((home.path / "temporary").iterdir()) == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("unpack", [False, True], ids=["pack", "unpack"])
def test_a_disk_that_refuses_any_step_takes_nothing(
    tmp_path: Path, unpack: bool, error: int
) -> None:
    """At every create, write, sync and rename: the blob is whole then and afterwards."""
    refused = 0
    for step in range(100):
        path = tmp_path / f"home{step}"
        with new_home(path) as home:
            base, blob = home.blobs.put(BASE[:SHORT]), home.blobs.put(TUNED[:SHORT])
            order = Order(blob, 4, base)
            if unpack:
                home.blobs.packing.pack(order)
        disk = CountedDisk(error=error)
        with open_home(path, write=True, disk=disk) as home:
            disk.refuse = len(disk.log) + step
            try:
                if unpack:
                    home.blobs.packing.unpack(blob)
                else:
                    home.blobs.packing.pack(order)
                done = True
            except MachineError:
                done = False
                refused += 1
            assert bytes(home.blobs.read(blob, SHORT)) == TUNED[:SHORT]
            disk.refuse = None
        with open_home(path, write=True) as home:
            assert home.blobs.forget_lost() == 0
            assert bytes(home.blobs.read(blob, SHORT)) == TUNED[:SHORT]
            home.blobs.removal.drop(
                h for h in home.blobs.holdings() if h.form == "leftover"
            )
            assert leftovers(home) == set()
            assert bytes(home.blobs.read(blob, SHORT)) == TUNED[:SHORT]
        if done:
            break
    assert refused >= 6


def test_readers_never_notice(home: Home) -> None:
    """While a blob is packed and unpacked, it reads the same at every moment."""
    base, blob = home.blobs.put(BASE), home.blobs.put(TUNED)
    stop, failed = threading.Event(), list[BaseException]()

    def read() -> None:
        try:
            while not stop.is_set():
                assert bytes(home.blobs.read(blob, len(TUNED))) == TUNED
                assert home.blobs.read_chunk(blob, 0) == TUNED[:CHUNK_BYTES]
                with home.blobs.outgoing(blob) as going:
                    assert going.read(1) == TUNED[CHUNK_BYTES:]
        except BaseException as e:  # noqa: BLE001 -- told below
            failed.append(e)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(10):
        assert home.blobs.packing.pack(Order(blob, 4, base)).form is not None
        assert home.blobs.packing.unpack(blob) == len(TUNED)
    stop.set()
    reader.join()
    assert failed == []


@pytest.mark.parametrize("then", ["packed", "raw"])
def test_rows_of_an_older_backup_find_the_blob_as_it_lies_here_now(
    home: Home, tmp_path: Path, then: str
) -> None:
    """The table says raw and the file is packed, or the other way round: none is lost."""
    base, _ = refer(home, tmp_path)
    blob = home.blobs.put(TUNED)
    if then == "packed":
        home.blobs.packing.pack(Order(blob, 4, base))
    home.close()
    backup = (home.path / "store.sqlite").read_bytes()
    with open_home(home.path, write=True) as again:
        if then == "packed":
            again.blobs.packing.unpack(blob)
        else:
            again.blobs.packing.pack(Order(blob, 4, base))
    (home.path / "store.sqlite").write_bytes(backup)
    with open_home(home.path, write=True) as restored:
        assert form(restored, blob) == ("packed" if then == "packed" else "own")
        assert restored.blobs.forget_lost() == 0
        assert form(restored, blob) == "own"
        assert bytes(restored.blobs.read(blob, len(TUNED))) == TUNED
        assert leftovers(restored) == set()


def test_a_packed_file_that_lies_is_not_taken_in(home: Home, tmp_path: Path) -> None:
    """A file under a blob's name that decodes to something else makes no blob of it."""
    blob, _ = packed(home, tmp_path)
    path = packed_file(home, blob)
    good = path.read_bytes()
    home.blobs.rows.delete([blob])
    for bad in (b"", good[:100], good[:-1], good[:-1] + bytes([good[-1] ^ 1])):
        path.write_bytes(bad)
        assert not home.blobs.packing.restore(blob)
        assert not home.blobs.has(blob)
    path.write_bytes(good)
    assert home.blobs.packing.restore(blob)
    assert bytes(home.blobs.read(blob, len(TUNED))) == TUNED
