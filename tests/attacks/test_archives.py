"""Files that are said to hold a space: none is believed, and nothing is half kept."""

import gzip
import io
import json
import os
import random
import tarfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from crdtmerge.bodies import Add, Grant
from crdtmerge.codec import DECIMAL_UNIT, encode
from crdtmerge.digest import BlobId, ContentId, blob_id_of
from crdtmerge.errors import (
    BadInputError,
    BadSignatureError,
    CrdtMergeError,
    MalformedArchiveError,
    MissingAuthorityError,
    NotAdmissibleError,
    WrongSpaceError,
)
from crdtmerge.identity import SigningKey
from crdtmerge.policy import Rank
from crdtmerge.record import decode_record, make_record, sign_record
from crdtmerge.replica import Replica
from nodes.archive.form import entry_head, read_entry_head
from nodes.home import open_home
from nodes.spaces import Spaces
from tests.archives import (
    Entries,
    Shared,
    entries,
    header,
    packed,
    pairs,
    recounted,
    with_header,
    with_records,
)
from tests.attacks.guard import guarded

SEED = int(os.environ.get("CRDTMERGE_ARCHIVE_SEED", "1"))
Change = Callable[[Entries], Entries]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """One space for all: no test here may change ben's home."""
    made = Shared.at(tmp_path_factory.mktemp("shared"))
    made.export(with_base=True)
    return made


@pytest.fixture(scope="module")
def good(shared: Shared) -> bytes:
    return shared.file.read_bytes()


def refused(
    shared: Shared, data: bytes, error: type[CrdtMergeError] = MalformedArchiveError
) -> CrdtMergeError:
    """Check that a file is refused and nothing of it stays; return the error."""
    file, folder = shared.folder / "hostile.tar", shared.folder / "unpacked"
    file.write_bytes(data)
    with guarded(shared.folder, error) as found:
        shared.import_(file=file, base=folder)
    return found.value


def test_the_form_is_one_that_python_reads_and_writes(good: bytes) -> None:
    """Else every refusal below would be for the wrong reason."""
    assert packed(entries(good)) == good


def test_the_good_file_is_taken(tmp_path: Path) -> None:
    made = Shared.at(tmp_path)
    made.export()
    assert made.import_()["complete"] == 2


@pytest.mark.parametrize("content", [None, bytes(32)])
def test_a_file_is_taken_though_a_member_signs_false_sizes(
    tmp_path: Path, content: bytes | None
) -> None:
    """An add that gives the manifest of another as one byte, of its content or any."""
    made = Shared.at(tmp_path)
    with open_home(made.ann, write=True) as home:
        (space,) = home.records.spaces()
        opset = Spaces(home.records, home.blobs).opset(space)
        for signed in opset.signed.of_kinds(frozenset({"add"})):
            body = signed.record.body
            assert isinstance(body, Add)
            false = ContentId(content or body.content)
            said = replace(body, manifest_bytes=1, content=false)
            lie = Replica(opset, home.author.unlock())._sign(said)
            home.records.append(space, [lie])
            opset = opset.insert([lie])
    made.export()
    assert made.import_()["complete"] == 2


def test_what_is_larger_than_anybody_signed_is_left_out_of_a_file(
    tmp_path: Path,
) -> None:
    """A member alone offers something, and says that it is smaller than it is."""
    made = Shared.at(tmp_path)
    with open_home(made.ann, write=True) as home:
        (space,) = home.records.spaces()
        opset = Spaces(home.records, home.blobs).opset(space)
        (first, *_) = opset.signed.of_kinds(frozenset({"add"}))
        body = first.record.body
        assert isinstance(body, Add)
        blob = home.blobs.put(b"more than one byte")
        said = replace(
            body, manifest=blob, manifest_bytes=1, content=ContentId(bytes(32))
        )
        lie = Replica(opset, home.author.unlock())._sign(said)
        home.records.append(space, [lie])
    made.export()
    assert made.import_()["complete"] == 2


# --- damage ----------------------------------------------------------------------------


def test_any_flipped_bit_is_found(shared: Shared, good: bytes) -> None:
    """Of headers, records, contents, zeros between them and the end."""
    rng = random.Random(SEED)
    places = [rng.randrange(len(good)) for _ in range(60)]
    for place in (0, *places, len(good) - 1):
        data = bytearray(good)
        data[place] ^= 1 << rng.randrange(8)
        refused(shared, bytes(data), CrdtMergeError)


def test_any_cut_is_found(shared: Shared, good: bytes) -> None:
    rng = random.Random(SEED)
    blocks = range(0, len(good), 512)
    for end in (*rng.sample(blocks, 25), len(good) - 512, len(good) - 1):
        refused(shared, good[:end], MalformedArchiveError)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a tar",
        bytes(1024),
        bytes(10240),
        b"PK\x03\x04" + bytes(2000),
        packed([("crdtmerge.json", b"{}")]),
        packed([("crdtmerge.json", b"[" * 100_000)]),
        packed([("crdtmerge.json", b"\xff\xfe")]),
        packed([("model.safetensors", bytes(9000))]),
    ],
)
def test_what_is_no_such_file_is_refused(shared: Shared, data: bytes) -> None:
    assert isinstance(refused(shared, data), BadInputError)


def test_a_file_that_goes_on_is_refused(shared: Shared, good: bytes) -> None:
    for more in (b"x", bytes(512), good):
        refused(shared, good + more)


# --- what a tar can say ------------------------------------------------------------------


def renamed(name: str) -> Change:
    def change(items: Entries) -> Entries:
        return [*items[:-1], (name, items[-1][1])]

    return change


@pytest.mark.parametrize(
    "name",
    [
        "../../escaped",
        "/tmp/escaped",
        "blobs/../../escaped",
        "blobs/",
        "blobs/00",
        "blobs/" + "A" * 64,
        "blobs/" + "0" * 63 + " ",
        "blobs/" + "0" * 64,
        "records/000007",
        "crdtmerge.json",
        "",
    ],
)
def test_names_are_ids_and_nothing_else(shared: Shared, good: bytes, name: str) -> None:
    refused(shared, packed(renamed(name)(entries(good))))
    assert not (shared.folder.parent / "escaped").exists()
    assert not Path("/tmp/escaped").exists()


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
        tarfile.CONTTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.AREGTYPE,
    ],
)
def test_nothing_but_plain_files_is_read(
    shared: Shared, good: bytes, kind: bytes
) -> None:
    """No links, no devices, no holes, no headers that change what follows."""
    name, data = entries(good)[-1]
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
    block = info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")
    start = good.rindex(name.encode())
    refused(shared, good[:start] + block + good[start + 512 :])


@pytest.mark.parametrize("field", ["mode", "uid", "gid", "mtime", "uname"])
def test_an_entry_has_one_spelling(shared: Shared, good: bytes, field: str) -> None:
    """Owners and times could tell who made a file, and make two of one space."""
    name, data = entries(good)[-1]
    info = tarfile.TarInfo(name)
    info.size = len(data)
    setattr(info, field, "ann" if field == "uname" else 7)
    block = info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")
    start = good.rindex(name.encode())
    refused(shared, good[:start] + block + good[start + 512 :])


def test_nothing_is_decompressed(shared: Shared, good: bytes) -> None:
    refused(shared, gzip.compress(good))
    bomb = gzip.compress(bytes(1 << 20))
    refused(shared, packed([("crdtmerge.json.gz", bomb), *entries(good)]))


def test_a_declared_size_is_not_allocated(shared: Shared, good: bytes) -> None:
    """An entry of a tebibyte in a small file costs nothing before it is refused."""
    head = entry_head("crdtmerge.json", 1 << 40)
    tracemalloc.start()
    refused(shared, head + good[512:])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("size", [0, 1, 511, 8 << 30, 5 << 30, 1 << 40])
def test_sizes_have_64_bits(size: int) -> None:
    """Beyond the 8 GiB that old tars could say; Python's own reader agrees."""
    head = entry_head("blobs/" + "a" * 64, size)
    assert len(head) == 512
    assert read_entry_head(head) == ("blobs/" + "a" * 64, size)
    with tarfile.open(fileobj=io.BytesIO(head + bytes(1024)), mode="r:") as tar:
        found = tar.next()
    assert found is not None
    assert found.size == size


# --- what a file can say of a space ------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"version": "1"},
        {"format": "else"},
        {"space": "00" * 32},
        {"space": "zz" * 32},
        {"space": 5},
        {"records": 1},
        {"records": -1},
        {"records": True},
        {"record_root": "00" * 32},
        {"blobs": 3},
        {"blobs": 10**30},
        {"blob_bytes": 1},
        {"more": 1},
        {"base": {}},
        {"base": []},
        {"base": None},
    ],
)
def test_a_header_that_lies_is_refused(
    shared: Shared, good: bytes, changed: dict[str, object]
) -> None:
    """Wrong numbers are no lie that could be used; they are refused as damage."""
    refused(shared, packed(with_header(entries(good), **changed)), CrdtMergeError)


def test_a_newer_file_says_so(shared: Shared, good: bytes) -> None:
    error = refused(shared, packed(with_header(entries(good), version=2)))
    assert error.hint == "upgrade crdtmerge"


def test_a_header_is_spelt_in_one_way(shared: Shared, good: bytes) -> None:
    items = entries(good)
    for text in (json.dumps(header(items)).encode(), items[0][1] + b" "):
        refused(shared, packed([(items[0][0], text), *items[1:]]))


def test_blobs_that_nobody_asked_for_are_refused(shared: Shared, good: bytes) -> None:
    extra = b"somebody's disk is not ours to fill"
    name = f"blobs/{blob_id_of(extra).hex()}"
    error = refused(shared, recounted([*entries(good), (name, extra)]))
    assert "nothing in it needs" in str(error)


def test_a_blob_comes_once(shared: Shared, good: bytes) -> None:
    items = entries(good)
    assert "twice" in str(refused(shared, recounted([*items, items[-1]])))


def test_a_blob_of_other_bytes_is_refused(shared: Shared, good: bytes) -> None:
    """As long as it should be, or not: no tensor of another stays for it."""
    items = entries(good)
    for index, (name, data) in enumerate(items):
        if name.startswith("blobs/") and data:
            changed = list(items)
            changed[index] = (name, bytes([data[0] ^ 1]) + data[1:])
            refused(shared, packed(changed))
            changed[index] = (name, data[:-1])
            refused(shared, recounted(changed))


def test_a_blob_is_not_larger_than_was_signed(shared: Shared, good: bytes) -> None:
    """It is refused before its bytes are read, so a short name fills no disk."""
    items = entries(good)
    for index, (name, data) in enumerate(items):
        if name.startswith("blobs/"):
            changed = list(items)
            changed[index] = (name, data + bytes(4096))
            error = refused(shared, recounted(changed))
            assert (
                "larger" in str(error)
                or "more than" in str(error)
                or "whole" in str(error)
            )


def test_a_manifest_that_is_not_there_needs_nothing(
    shared: Shared, good: bytes
) -> None:
    """Without it nobody knows what a tensor is for: the tensors are refused."""
    items = entries(good)
    first = next(i for i, (name, _) in enumerate(items) if name.startswith("blobs/"))
    assert "needs" in str(
        refused(shared, recounted(items[:first] + items[first + 1 :]))
    )


# --- records -----------------------------------------------------------------------------


def records(good: bytes) -> list[tuple[bytes, bytes]]:
    return pairs(dict(entries(good))["records/000000"])


def test_a_record_needs_its_signature(shared: Shared, good: bytes) -> None:
    found = records(good)
    data, signature = found[-1]
    forged = [*found[:-1], (data, bytes([signature[0] ^ 1]) + signature[1:])]
    items = with_records(entries(good), forged)
    refused(shared, recounted(items), BadSignatureError)


def test_a_record_needs_its_right(shared: Shared, good: bytes) -> None:
    """Eve grants herself a rank; whoever made the file believes her."""
    found, eve = records(good), SigningKey(b"e" * 32)
    genesis = decode_record(found[0][0])
    body = Grant(eve.public, Rank.MAINTAINER, DECIMAL_UNIT, 1000, 1 << 30)
    record = make_record(
        space=genesis.space_id,
        author=eve.public,
        author_seq=0,
        prev=b"",
        auth=genesis.id,
        body=body,
    )
    signed = sign_record(record, eve)
    items = with_records(entries(good), [*found, (record.data, signed.signature)])
    refused(shared, recounted(items), NotAdmissibleError)


def test_a_chain_comes_first(shared: Shared, good: bytes) -> None:
    found = records(good)
    rest = [item for item in entries(good) if not item[0].startswith("records/")]
    parts = [encode([list(pair)]) for pair in reversed(found)]
    named = [(f"records/{i:06d}", data) for i, data in enumerate(parts)]
    items = [rest[0], *named, *rest[1:]]
    refused(shared, recounted(items), MissingAuthorityError)


def test_no_record_is_left_out(shared: Shared, good: bytes) -> None:
    """The root that the header names is of all of them; without genesis there is none."""
    found = records(good)
    refused(shared, packed(with_records(entries(good), found[:-1])))
    refused(shared, packed(with_records(entries(good), [])), CrdtMergeError)


def test_a_record_comes_once(shared: Shared, good: bytes) -> None:
    found = records(good)
    error = refused(shared, recounted(with_records(entries(good), [*found, found[-1]])))
    assert "twice" in str(error)


def test_records_of_another_space_are_refused(
    shared: Shared, good: bytes, tmp_path: Path
) -> None:
    other = Shared.at(tmp_path, seed=500)
    other.export()
    mixed = [*records(good), *records(other.file.read_bytes())]
    refused(shared, recounted(with_records(entries(good), mixed)), WrongSpaceError)


@pytest.mark.parametrize("value", [[], [[b"a"]], [b"a"], b"a", [[b"a", b"b", b"c"]]])
def test_records_are_pairs(shared: Shared, good: bytes, value: object) -> None:
    rest = [item for item in entries(good) if not item[0].startswith("records/")]
    data = encode(value)  # type: ignore[arg-type]
    items = [rest[0], ("records/000000", data), *rest[1:]]
    refused(shared, packed(items), CrdtMergeError)


def test_records_are_numbered(shared: Shared, good: bytes) -> None:
    items = [
        (name.replace("records/000000", "records/000001"), data)
        for name, data in entries(good)
    ]
    refused(shared, packed(items))


def test_an_entry_of_records_has_a_limit(shared: Shared, good: bytes) -> None:
    rest = [item for item in entries(good) if not item[0].startswith("records/")]
    items = [rest[0], ("records/000000", bytes(1 << 21)), *rest[1:]]
    refused(shared, packed(items))


# --- the base ----------------------------------------------------------------------------


def with_base(items: Entries, **changed: object) -> Entries:
    base = header(items)["base"]
    assert isinstance(base, dict)
    return with_header(items, base={**base, **changed})


@pytest.mark.parametrize(
    "name",
    [
        "../config.json",
        "/config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "weights.pkl",
        "resolution.json",
        ".hidden",
        "CON",
        "a\\b",
        "",
        ".",
        "nul.txt",
        "x" * 300,
        "a\nb",
    ],
)
def test_a_file_of_the_base_has_a_harmless_name(
    shared: Shared, good: bytes, name: str
) -> None:
    """Nothing is written outside of the new folder, over the weights, or as weights."""
    items = entries(good)
    base = header(items)["base"]
    assert isinstance(base, dict)
    files = [{**base["files"][0], "name": name}]
    refused(shared, packed(with_base(items, files=files)))


def test_another_model_is_no_base(shared: Shared, good: bytes) -> None:
    """A manifest of a contribution is in the file, and is not what the space is about."""
    items = entries(good)
    base = header(items)["base"]
    assert isinstance(base, dict)
    manifests = [
        (name.removeprefix("blobs/"), len(data))
        for name, data in items
        if name.startswith("blobs/") and name != f"blobs/{base['manifest']}"
    ]
    for manifest, size in manifests[:2]:
        changed = with_base(items, manifest=manifest, manifest_bytes=size)
        refused(shared, packed(changed), CrdtMergeError)


def test_a_base_is_whole_or_refused(shared: Shared, good: bytes) -> None:
    items = entries(good)
    base = header(items)["base"]
    assert isinstance(base, dict)
    file = base["files"][0]
    changes: list[dict[str, object]] = [
        {"files": [{**file, "blob": "00" * 32}]},
        {"files": [{**file, "size": file["size"] + 1}]},
        {"files": [file, file]},
        {"files": [{}]},
        {"files": {}},
        {"manifest": "00" * 32},
        {"manifest_bytes": 1},
    ]
    for changed in changes:
        refused(shared, packed(with_base(items, **changed)))


def test_damage_of_the_base_leaves_no_folder(shared: Shared, good: bytes) -> None:
    """Its tensors are verified while they are unpacked."""
    items = entries(good)
    base = header(items)["base"]
    assert isinstance(base, dict)
    manifest = dict(items)[f"blobs/{base['manifest']}"]
    from crdtmerge.manifest import decode_manifest

    for entry in decode_manifest(manifest).tensors:
        name = f"blobs/{BlobId(entry.blob).hex()}"
        index = [n for n, _ in items].index(name)
        changed = list(items)
        data = changed[index][1]
        changed[index] = (name, bytes([data[0] ^ 1]) + data[1:])
        refused(shared, packed(changed))
