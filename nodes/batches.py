"""Records in batches: what is looked at before they count, and their order in the store.

Owns plain functions over batches. Does not own the sets (`sets`), nor the rules for one
record (`crdtmerge.record`, `crdtmerge.policy`).
"""

from collections.abc import Iterable, Mapping, Sequence

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import BlobId
from crdtmerge.errors import MissingAuthorityError
from crdtmerge.identity import AuthorId
from crdtmerge.orset import OpSet
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
