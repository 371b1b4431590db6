"""The verb `space_import`: a space from one file, as if its peers had sent it.

Owns what is kept of the file, and in which order: bytes first, records last, so that any
error leaves the home as it was. Does not own the checks (`nodes.archive.checking`) nor the
store.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from crdtmerge.digest import BlobId, chunk_digest
from crdtmerge.formats.ingest import Model
from crdtmerge.formats.progress import Progress
from crdtmerge.numerics import TensorFacts
from crdtmerge.orset import OpSet
from crdtmerge.policy import View

from ..archive.checking import CheckedArchive, named
from ..archive.reading import Archive
from ..archive.unpacking import Unpacking, is_new
from ..store.disk import SYSTEM_DISK
from ..store.ranges import read_source
from . import arguments as given
from .contents import Bringing, bringing_in, keep_exponents, read_base
from .facts import identity_facts
from .live import Answer, Arguments, Context, Tell, telling
from .membership import of_space, take_base

NO_RIGHTS = (
    "this gives no rights in the space: `crdtmerge space join` with a ticket does"
)
NO_BASE = "to resolve, name your own copy of the base: the same command with --base DIR"
HAS_BASE = "the base is in the file: the same command with --base DIR unpacks it there"
ON_TRUST = (
    "what lies beside the base's weights (configuration, tokenizer) is signed by nobody:"
    " it is as trustworthy as whoever gave you the file"
)


@dataclass(slots=True)
class _Base:
    """The user's copy of the base: read already, or to be unpacked from the file."""

    folder: Path
    bringing: Bringing
    model: Model | None = None
    facts: Mapping[str, TensorFacts] = field(default_factory=dict)

    def read(self, view: View) -> None:
        """Read the model that is in the folder now, which must be the base."""
        found = read_base(self.folder, self.bringing)
        self.model, self.facts = of_space(*found, view.base, view.rules.name)


@dataclass(slots=True)
class _Import:
    """What of a checked file goes into a home."""

    context: Context
    checked: CheckedArchive
    base: _Base | None
    bringing: Bringing
    tell: Tell
    wanted: list[BlobId] = field(init=False)
    total: int = field(init=False)
    done: int = 0

    def __post_init__(self) -> None:
        """Say what is wanted, and make sure that there is room for it.

        Raises:
            NoRoomError: there is not.
        """
        checked, blobs = self.checked, self.context.home.blobs
        covered = self._covered()
        needed = [blob for blob in checked.needed() if blob not in covered]
        self.bringing.intake.lease.add(needed)
        self.wanted = blobs.missing(needed)
        self.total = sum(checked.entries[blob].size for blob in self.wanted)
        blobs.reserve(self.total)
        if self.unpacks and checked.base is not None:
            self.total += checked.base.size

    @property
    def unpacks(self) -> bool:
        """Whether the base is still in the file alone."""
        return self.base is not None and self.base.model is None

    def _covered(self) -> frozenset[BlobId]:
        """Return what will be on this machine once the base is referenced."""
        if self.base is None:
            return frozenset()
        model = self.base.model
        manifest = self.checked.base if model is None else model.manifest
        entries = manifest.tensors if manifest else ()
        return frozenset(entry.blob for entry in entries)

    def run(self) -> None:
        """Bring bytes first, records last.

        Raises:
            MalformedArchiveError: bytes are not those of their name.
            MachineError: the disk refused.
        """
        for blob in self.wanted:
            self._copy(blob)
        with self._unpacked():
            self.bringing.intake.keep(self.wanted)
            self._take_base()
            self.bringing.signing = True
            records = list(self.checked.theirs.signed.values())
            self.context.spaces.bring(self.checked.space, records)

    def _copy(self, blob: BlobId) -> None:
        """Copy a blob out of the file, verified while it is copied."""
        entry, intake = self.checked.entries[blob], self.bringing.intake
        writing, chunks = intake.new_file(entry.size), list[bytes]()
        place = (self.checked.archive.path, entry.offset, entry.size)
        for piece in read_source(SYSTEM_DISK, *place, self._report):
            chunks.append(chunk_digest(piece))
            writing.write(piece)
        if intake.written(writing, entry.size, chunks) != blob:
            raise self.checked.archive.refused(f"{named(blob)} has other bytes")

    @contextmanager
    def _unpacked(self) -> Iterator[None]:
        """Unpack the base if it is in the file alone; if the block fails, it goes again."""
        base, checked = self.base, self.checked
        if base is None or checked.base is None or not self.unpacks:
            yield
            return
        unpacking = Unpacking(
            checked.archive,
            checked.entries,
            checked.base,
            checked.base_files,
            self._report,
        )
        unpacking.run(base.folder)
        try:
            base.read(checked.theirs.view)
            yield
        except Exception:
            unpacking.discard(base.folder)
            raise

    def _take_base(self) -> None:
        if self.base is None or self.base.model is None:
            return
        local, space = self.context.home.local, self.checked.space
        facts = take_base(self.base.bringing, self.base.model)
        self.base.bringing.signing = True
        local.set_base(space, facts.folder, facts.manifest)
        keep_exponents(local, space, self.base.facts)

    def _report(self, count: int) -> None:
        self.done += count
        telling(self.tell)(Progress("importing", self.done, self.total))


def space_import(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Take in a space from a file: its records, its contents, and its base if asked.

    A home that has the space already gets what it lacks. It gives no rights.

    Raises:
        MalformedArchiveError: the file was cut, damaged, or made otherwise.
        RemoteError: a record in it breaks a rule; the home is as it was.
        BaseMismatchError: the folder given is not the base of the space.
        MachineError: the disk has no room, or refused; the home is as it was.
    """
    folder = given.path(asked, "base") if asked.get("base") is not None else None
    with (
        Archive(given.path(asked, "file")) as archive,
        bringing_in(context, tell) as bringing,
        bringing_in(context, tell, reference=True, moved=True) as referring,
    ):
        space = archive.header.space
        here = space in context.spaces.all()
        ours = context.spaces.opset(space) if here else OpSet(space)
        checked = CheckedArchive(archive, ours)
        base = None if folder is None else _base(checked, folder, referring)
        job = _Import(context, checked, base, bringing, tell)
        unpacked = job.unpacks
        job.run()
    return {
        **_facts(context, checked),
        "new_blobs": len(bringing.intake.fresh) + len(referring.intake.fresh),
        "new_bytes": bringing.intake.new_bytes + referring.intake.new_bytes,
        "unpacked": unpacked,
        "notes": [
            *(base.model.notes if base and base.model else ()),
            *_remarks(context, checked, unpacked=unpacked),
        ],
    }


def _base(checked: CheckedArchive, folder: Path, bringing: Bringing) -> _Base:
    """Return the base that the user names; one that is there is checked at once."""
    base = _Base(folder, bringing)
    if checked.base is None or not is_new(folder):
        base.read(checked.theirs.view)
    return base


def _facts(context: Context, checked: CheckedArchive) -> Answer:
    space = checked.space
    progress = context.spaces.progress(space)
    fresh = checked.theirs.signed.keys() - checked.ours.signed.keys()
    view = context.spaces.view(space)
    return {
        **identity_facts(view, space, context.key.public),
        "new": not len(checked.ours),
        "records": len(context.spaces.opset(space)),
        "new_records": len(fresh),
        "contributions": len(progress),
        "complete": sum(progress.values()),
        "base_known": context.home.local.base(space) is not None,
    }


def _remarks(context: Context, checked: CheckedArchive, *, unpacked: bool) -> list[str]:
    remarks, space = [], checked.space
    if context.key.public not in context.spaces.view(space).ranks:
        remarks.append(NO_RIGHTS)
    if context.home.local.base(space) is None:
        remarks.append(NO_BASE if checked.base is None else HAS_BASE)
    if unpacked and checked.base_files:
        remarks.append(ON_TRUST)
    return remarks
