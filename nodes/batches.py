"""Records in batches: what is looked at before they count, and their order in the store.

Owns plain functions over batches. Does not own the sets (`sets`), nor the rules for one
record (`crdtmerge.record`, `crdtmerge.policy`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import MissingAuthorityError
from crdtmerge.identity import AuthorId
from crdtmerge.orset import OpSet
from crdtmerge.policy import is_dead
from crdtmerge.record import Record, SignedRecord, decode_record
from crdtmerge.sync.messages import SignedBytes

from .store.base import RECORD_OVERHEAD_BYTES


def returned(
    before: OpSet,
    opsets: Mapping[SpaceId, OpSet],
    fresh: Iterable[RecordId],
    author: AuthorId | None,
) -> list[RecordId]:
    """Return new records of `author` that its home, as it was before, should have made.

    Older ones are none: who joins again with the keys of a lost home gets them back.
    """
    fresh = set(fresh)
    if not fresh:
        return []
    records = [opsets[before.space].records[key] for key in fresh]
    own = [record for record in records if record.author == author]
    if author is None or not own:
        return []
    used = {s.record.author_seq for s in before.signed.of_author(author)}
    last = max(used, default=-1)
    return sorted(r.id for r in own if r.author_seq > last or r.author_seq in used)


@dataclass(frozen=True, slots=True)
class Compacted:
    """That records went from a set here, since owners listed them as dead."""

    gone: int
    """How many were held here, and are no more."""
    own: int
    """How many of them this home's author signed."""
    kept: int
    """How many of this author's own are in the set, and stay."""
    lost: tuple[RecordId, ...]
    """Adds of this author that were live until then: nobody had removed them."""


def compacted(
    before: OpSet, after: OpSet, gone: Collection[RecordId], author: AuthorId | None
) -> Compacted:
    """Return what to say of records that went from a set; `author` is this home's."""
    own = [key for key in sorted(gone) if _by(before, key, author)]
    live = (
        {add for shown in before.view.visible for add in shown.adds} if own else set()
    )
    kept = len(after.signed.of_author(author)) if author is not None else 0
    return Compacted(len(gone), len(own), kept, tuple(k for k in own if k in live))


def _by(opset: OpSet, record: RecordId, author: AuthorId | None) -> bool:
    found = opset.get(record)
    return found is not None and found.author == author


def bytes_in_message(signed: SignedRecord) -> int:
    """Return what a record takes of a message, at most."""
    return len(signed.record.data) + len(signed.signature) + RECORD_OVERHEAD_BYTES


def join_sizes(sizes: dict[BlobId, int], more: Mapping[BlobId, int]) -> None:
    """Add `more` blobs; of two sizes of one blob the larger counts."""
    for blob, size in more.items():
        sizes[blob] = max(size, sizes.get(blob, 0))


def check_chains_come(
    opset: OpSet, batch: Sequence[SignedBytes]
) -> list[tuple[Record, bytes]]:
    """Return records and signatures; check that each names a grant that is here or comes.

    Before any signature is verified, which is dear: anybody can sign records without end
    that hang on nothing.

    Raises:
        MalformedRecordError: bytes of the batch are no record.
        MissingAuthorityError: a grant is neither in the set nor in the batch.
    """
    read = [(decode_record(raw.data), raw.signature) for raw in batch]
    coming = {record.id for record, _ in read}
    for record, _ in read:
        auth = RecordId(record.auth)
        if record.auth and auth not in coming and auth not in opset:
            raise MissingAuthorityError(record.id, record.auth)
    return read


def living(
    opset: OpSet, read: Sequence[tuple[Record, bytes]]
) -> list[tuple[Record, bytes]]:
    """Return what is not dead of what came: that costs no signature.

    Raises:
        MissingAuthorityError: a grant is neither in the set nor in the batch.
        NotAdmissibleError: an author had no right to make what is listed as dead.
    """
    if not opset.listing:
        return list(read)
    came = {record.id: record for record, _ in read}

    def lookup(key: RecordId) -> Record | None:
        return came.get(key) or opset.get(key)

    return [
        (record, signature)
        for record, signature in read
        if not is_dead(record, opset.listing, lookup)
    ]


def chains_first(fresh: Mapping[RecordId, SignedRecord]) -> list[SignedRecord]:
    """Order a batch so that each record comes after the grant it hangs on.

    The feed serves records in stored order, so a reader never meets a gap.
    """
    ordered: dict[RecordId, SignedRecord] = {}
    for signed in fresh.values():
        links = [signed]
        while (
            auth := RecordId(links[-1].record.auth)
        ) in fresh and auth not in ordered:
            links.append(fresh[auth])
        ordered |= {link.record.id: link for link in reversed(links)}
    return list(ordered.values())
