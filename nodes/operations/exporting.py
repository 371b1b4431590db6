"""The verb `space_export`: a space as one file.

Owns what goes into the file. Does not own its form and its writing (`nodes.archive`). It
only reads the home, so it runs beside a node. Every byte is verified while it is read: a
file that was damaged is never passed on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId, blob_id_of
from crdtmerge.errors import (
    BadInputError,
    ContentMissingError,
    FaultyContributionError,
)
from crdtmerge.formats.folder import read_companions
from crdtmerge.formats.progress import Progress
from crdtmerge.manifest import Manifest
from crdtmerge.orset import OpSet
from crdtmerge.policy import manifest_sizes
from crdtmerge.record import SignedRecord
from crdtmerge.sync.messages import SignedBytes

from ..archive.form import (
    BLOBS_MAX,
    FILES_MAX,
    HEADER_NAME,
    RECORDS_BYTES_MAX,
    BaseEntry,
    BaseFile,
    Header,
    blob_name,
    encode_records,
    records_name,
)
from ..archive.writing import ArchiveWriter
from ..store.base import RECORD_OVERHEAD_BYTES
from ..store.disk import SYSTEM_DISK
from ..store.leases import Lease
from . import arguments as given
from .contents import base_facts, base_manifest
from .live import Answer, Arguments, Context, Tell, telling
from .selection import SHORT, choose_space

Pieces = Iterator[bytes]
LACKING = "not whole here, so in part or not at all in the file: "


@dataclass(slots=True)
class _Cargo:
    """The blobs that go into the file, each once: its size, and where its bytes are."""

    context: Context
    lease: Lease
    sizes: dict[BlobId, int] = field(default_factory=dict)
    pieces: dict[BlobId, Callable[[], Pieces]] = field(default_factory=dict)

    def take(self, blobs: Iterable[BlobId]) -> None:
        """Take blobs of the store.

        Raises:
            ContentMissingError: one is not here.
        """
        for blob in blobs:
            if blob not in self.sizes:
                self.lease.add([blob])
                size, _ = self.context.home.blobs.chunk_list(blob)
                self.sizes[blob] = size
                self.pieces[blob] = partial(self.context.home.blobs.access.pieces, blob)

    def take_file(self, path: Path) -> BaseFile:
        """Take a small file; return what the header says of it."""
        data = _read(path)
        blob = blob_id_of(data)
        if blob not in self.sizes:
            self.sizes[blob] = len(data)
            self.pieces[blob] = partial(_unchanged, path, blob)
        return BaseFile(path.name, len(data), blob)


def space_export(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Write a space to one file, which holds nothing that its members do not share.

    Raises:
        ConflictError: the file is there already.
        ContentMissingError: the base is wanted and not here.
        CorruptBlobError: bytes of the store are damaged; no file was made.
        MachineError: the disk refused; no file was made.
    """
    space = choose_space(context.spaces, given.text(asked, "space"))
    with context.home.blobs.leases.hold() as lease:
        return _export(_Cargo(context, lease), space, asked, tell)


def _export(cargo: _Cargo, space: SpaceId, asked: Arguments, tell: Tell) -> Answer:
    """Write the file; what it takes is leased, so that it stays meanwhile."""
    context, lacking, base = cargo.context, list[str](), None
    path, opset = given.path(asked, "file"), context.spaces.opset(space)
    if not given.flag(asked, "without_contents"):
        lacking = _take_contributions(cargo, space)
    if given.flag(asked, "with_base"):
        base = _take_base(cargo, space)
    if len(cargo.sizes) > BLOBS_MAX:
        message = f"the space has {len(cargo.sizes)} blobs; one file holds {BLOBS_MAX}"
        raise BadInputError(message, hint="export it --without-contents")
    total = sum(cargo.sizes.values())
    header = Header(space, len(opset), opset.root, len(cargo.sizes), total, base)
    force = given.flag(asked, "force")
    with ArchiveWriter(path, SYSTEM_DISK, overwrite=force) as writer:
        _write(writer, header, opset, cargo, tell)
    return {
        "space": space.hex(),
        "name": context.spaces.name(space),
        "file": str(path),
        "file_bytes": path.stat().st_size,
        "records": header.records,
        "blobs": header.blobs,
        "blob_bytes": header.blob_bytes,
        "with_base": base is not None,
        "incomplete": lacking,
        "notes": [LACKING + ", ".join(lacking)] if lacking else [],
    }


def _take_contributions(cargo: _Cargo, space: SpaceId) -> list[str]:
    """Take what is here of the visible contributions; return those that lack something.

    Manifests come first: they say what the rest is for.
    """
    spaces, blobs = cargo.context.spaces, cargo.context.home.blobs
    visible = spaces.view(space).visible
    # What is larger than anybody signed would have the whole file refused.
    named = {
        blob
        for blob, size in manifest_sizes(visible).items()
        if blobs.has(blob) and blobs.chunk_list(blob)[0] <= size
    }
    cargo.take(sorted(named))
    needed, lacking = set[BlobId](), list[str]()
    for item in visible:
        try:
            sizes: Mapping[BlobId, int] = spaces.manifest(item).blobs()
        except (ContentMissingError, FaultyContributionError):
            lacking.append(item.content.hex()[:SHORT])
            continue
        missing = set(blobs.missing(sizes))
        needed |= sizes.keys() - missing
        if missing:
            lacking.append(item.content.hex()[:SHORT])
    cargo.take(sorted(needed))
    return lacking


def _take_base(cargo: _Cargo, space: SpaceId) -> BaseEntry:
    """Take the base: its manifest, its tensors, and the files beside its weights."""
    context = cargo.context
    facts, manifest = base_facts(context, space), base_manifest(context, space)
    companions = read_companions(facts.folder)
    if len(companions) > FILES_MAX:
        message = f"{facts.folder} has more than {FILES_MAX} files beside its weights"
        raise BadInputError(message, hint="export without the base")
    cargo.take([facts.manifest, *_tensors(manifest)])
    files = tuple(cargo.take_file(path) for _, path in companions)
    return BaseEntry(facts.manifest, len(manifest.encode()), files)


def _tensors(manifest: Manifest) -> list[BlobId]:
    return sorted({entry.blob for entry in manifest.tensors})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise BadInputError(f"cannot read {path}: {e.strerror}") from e


def _unchanged(path: Path, blob: BlobId) -> Pieces:
    data = _read(path)
    if blob_id_of(data) != blob:
        message = f"{path} changed while it was being read"
        raise BadInputError(message, hint="do not write to a model that is in use")
    yield data


def _write(
    writer: ArchiveWriter, header: Header, opset: OpSet, cargo: _Cargo, tell: Tell
) -> None:
    """Write header, records and blobs, in this order."""
    data = header.encode()
    writer.add(HEADER_NAME, len(data), [data])
    for number, batch in enumerate(_batches(opset)):
        data = encode_records(batch)
        writer.add(records_name(number), len(data), [data])
    told = _told(tell, header.blob_bytes)
    for blob, size in cargo.sizes.items():
        writer.add(blob_name(blob), size, map(told, cargo.pieces[blob]()))


def _told(tell: Tell, total: int) -> Callable[[bytes], bytes]:
    """Return a function that passes pieces on, and tells how many bytes that were."""
    report, done = telling(tell), 0

    def told(piece: bytes) -> bytes:
        nonlocal done
        done += len(piece)
        report(Progress("exporting", done, total))
        return piece

    return told


def _batches(opset: OpSet) -> Iterator[list[SignedBytes]]:
    """Yield all records, each after the chain it hangs on, by id where that is free."""
    batch, size = list[SignedBytes](), 0
    for signed in _ordered(opset):
        raw = SignedBytes(signed.record.data, signed.signature)
        more = len(raw.data) + len(raw.signature) + RECORD_OVERHEAD_BYTES
        if batch and size + more > RECORDS_BYTES_MAX - RECORD_OVERHEAD_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(raw)
        size += more
    if batch:
        yield batch


def _ordered(opset: OpSet) -> Iterator[SignedRecord]:
    sent: set[RecordId] = set()
    for key in sorted(opset.signed):
        signed = opset.signed[key]
        for link in (*opset.chain(signed.record), signed):
            if link.record.id not in sent:
                sent.add(link.record.id)
                yield link
