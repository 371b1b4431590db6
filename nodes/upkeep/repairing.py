"""Repair: a damaged blob is set aside, and only what is wrong of it is had anew.

Owns where the bytes come from, and what is said where there are none. Does not own finding
damage (`inspecting`) nor fetching: what is set aside is wanted, as what never arrived is.

First this machine is asked: the row may be wrong and the file right; other blobs may hold
equal chunks; the base's own folder may hold the tensor. Peers serve what a contribution in
the merge needs, and nothing else: what only a base or a pin needs stays as it is, damaged,
so that whoever uses it is told what to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from crdtmerge.digest import BlobId, chunk_count
from crdtmerge.errors import ContentMissingError, CrdtMergeError, NotFoundError

from ..home import Home
from ..spaces import Spaces
from ..store.download import chunk_length
from .forgetting import forget_unneeded
from .inspecting import Damage
from .needs import Needs
from .sources import Place, Sources

Outcome = Literal["repaired", "wanted", "removed", "beyond", "unknown"]
"""Made right; to be fetched; gone, as nothing needs it; had from nowhere; or left as it is,
as a manifest that cannot be read, or what is under way, may need it."""

NO_PEER: Final = (
    "no peer serves it: put the file back, or `crdtmerge space join TICKET --base DIR`"
    " with another copy of the base; or contribute the model again"
)


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of one damaged blob; `fetch_bytes` have to come from peers."""

    blob: BlobId
    outcome: Outcome
    fetch_bytes: int = 0
    local_bytes: int = 0


def repair(
    home: Home, spaces: Spaces, damage: Damage, needs: Needs, sources: Sources
) -> Repair:
    """Repair a damaged blob from this machine, as far as that goes.

    Raises:
        MachineError: the disk refused, or has no room.
    """
    blobs, blob = home.blobs, damage.blob
    if blob not in needs:
        # when it is not gone, somebody has come to need it since
        gone = not needs.unknown and forget_unneeded(home, spaces, [blob])
        return Repair(blob, "removed" if gone else "unknown")
    if damage.form != "referenced" and (
        blobs.examination.adopt(blob) or blobs.packing.restore(blob)
    ):
        return Repair(blob, "repaired")
    served = any(need.kind == "contribution" for need in needs.why(blob))
    digests = _digests(home, damage)
    lacking = _lacking(damage)
    lengths = {index: chunk_length(damage.size, index) for index in lacking}
    found: dict[int, Place] = {}
    if digests:
        found = sources.find(blob, lengths, [digests[index] for index in lacking])
    if _waits(home, damage, needs) or (
        not served and (not digests or len(found) < len(lacking))
    ):
        return Repair(blob, "beyond")
    with spaces.lock:
        blobs.removal.set_aside(blob)
        spaces.look_again()
    if not digests:
        return Repair(blob, "wanted", damage.size)
    return _resume(home, damage, digests, found, sources)


def _waits(home: Home, damage: Damage, needs: Needs) -> bool:
    """Tell whether a packed blob waits for its base, which is damaged or away.

    SUBTLE: its own file may be right, and the only copy there is: it is read again with
    the base. Only a base that nobody has and nothing needs is never to come.
    """
    base = damage.other if damage.kind == "base" else None
    return base is not None and (base in needs or home.blobs.has(base))


def _digests(home: Home, damage: Damage) -> list[bytes]:
    """Return the digests of a blob's chunks; none if the list is what is damaged."""
    try:
        return home.blobs.chunk_list(damage.blob)[1]
    except CrdtMergeError:
        return []


def _lacking(damage: Damage) -> list[int]:
    """Return which chunks must be had: of what lies in a file of ours, the wrong ones."""
    if damage.form == "own":
        return list(damage.chunks)
    return list(range(chunk_count(damage.size)))


def _resume(
    home: Home,
    damage: Damage,
    digests: list[bytes],
    found: Mapping[int, Place],
    sources: Sources,
) -> Repair:
    """Take up what is right of a blob that was set aside, and add what is on hand."""
    blobs, blob, size = home.blobs, damage.blob, damage.size
    blobs.begin(blob, size, digests)
    added = 0
    left: Sequence[int] = range(len(digests))
    try:
        for index in blobs.missing_chunks(blob):
            place = found.get(index)
            data = sources.read(place, digests[index]) if place is not None else None
            if data is not None:
                blobs.write_chunk(blob, index, data)
                added += len(data)
        left = blobs.missing_chunks(blob)
        if not left:
            blobs.finish(blob)
    except (NotFoundError, ContentMissingError):
        # A fetch began as well, for the blob is wanted by now, and ended before us. What
        # came is kept, and the next one takes it up.
        left = left or range(len(digests))
    finally:
        blobs.pause(blob)  # whatever went wrong, nothing stays open and reserved
    if not left or blobs.has(blob):
        return Repair(blob, "repaired", 0, added)
    fetch = sum(chunk_length(size, index) for index in left)
    return Repair(blob, "wanted", fetch, added)
