"""The verbs that check and repair what is stored: `store_fsck`, `store_await`.

Owns what they answer, and how long peers are waited for. Does not own what damage is, nor
its repair (`nodes.upkeep`), nor fetching.
"""

from collections.abc import Callable, Mapping, Sequence

from crdtmerge.digest import DIGEST_BYTES, BlobId
from crdtmerge.errors import BadInputError

from ..store.database import RESTORE
from ..store.holdings import Holding
from ..store.removing import BLOB_FORMS
from ..store.rereading import damaged_rows
from ..upkeep.inspecting import MEANINGS, Damage, inspect, inspect_blob
from ..upkeep.needs import Need, Needs, find_needs
from ..upkeep.repairing import NO_PEER, Repair, repair
from ..upkeep.sources import Sources
from . import arguments as given
from .bringing import PATIENCE_S, POLL_S, Patience
from .converging import live_of
from .live import Answer, Arguments, Context, Tell

MIB = 1 << 20


def store_fsck(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Read every record and every blob, and say what is damaged and who needs it.

    With `repair`, make right what this machine can, and set the rest aside to be fetched.

    Raises:
        MachineError: the store cannot be read; or a repair found no room.
    """
    home, spaces = context.home, context.spaces
    holdings = home.blobs.holdings()
    total = sum(h.size for h in holdings if h.form in BLOB_FORMS)
    tables = damaged_rows(home.database)
    found = list(inspect(home.blobs, _telling(tell, total), holdings=holdings))
    needs = find_needs(home, spaces)
    repairs: dict[BlobId, Repair] = {}
    adopted: list[BlobId] = []
    if given.flag(asked, "repair"):
        repairs = _repair(context, found, needs)
        adopted = _adopt(context, holdings, needs)
    return {
        "blobs": sum(h.form in BLOB_FORMS for h in holdings),
        "bytes": total,
        "damaged": [_facts(damage, needs, repairs) for damage in found],
        "leftovers": [
            {"blob": h.blob.hex(), "bytes": h.stored, "adopted": h.blob in adopted}
            for h in holdings
            if h.form == "leftover"
        ],
        "tables": tables,
        "wanted": [r.blob.hex() for r in repairs.values() if r.outcome == "wanted"],
        "sound": not tables and all(_is_sound(d, repairs) for d in found),
        "notes": [RESTORE] if tables else [],
    }


def _telling(tell: Tell, total: int) -> Callable[[int], None]:
    """Return a receiver of bytes that were checked; it speaks every few MiB."""
    done = told = 0

    def count(more: int) -> None:
        nonlocal done, told
        done += more
        if done - told >= 8 * MIB or done >= total:
            told = done
            tell({"work": "checking", "done": done, "total": total, "unit": "bytes"})

    return count


def _repair(
    context: Context, found: Sequence[Damage], needs: Needs
) -> dict[BlobId, Repair]:
    """Repair what is damaged: manifests first, which tell what others are needed for.

    Then what is not packed, for others are packed against it.
    """
    home, spaces = context.home, context.spaces
    sources = Sources(home, spaces)
    forms = {h.blob: h for h in home.blobs.holdings()}
    done: dict[BlobId, Repair] = {}

    def order(damage: Damage) -> tuple[bool, bool, BlobId]:
        return damage.blob not in needs.unknown, damage.form == "packed", damage.blob

    for damage in sorted(found, key=order):
        again: Damage | None = damage
        if damage.form == "packed" and damage.blob in forms:
            again = inspect_blob(home.blobs, forms[damage.blob])
        done[damage.blob] = (
            Repair(damage.blob, "repaired")
            if again is None
            else repair(home, spaces, again, needs, sources)
        )
        if damage.blob in needs.unknown:  # a manifest: now its needs may be known
            needs = find_needs(home, spaces)
    return done


def _adopt(context: Context, holdings: Sequence[Holding], needs: Needs) -> list[BlobId]:
    """Take in files without a row that are right, and needed; return whose they are."""
    blobs = context.home.blobs
    lost = [
        h.blob
        for h in holdings
        if h.form == "leftover" and h.blob in needs and not blobs.has(h.blob)
    ]
    return [
        blob
        for blob in dict.fromkeys(lost)
        if blobs.examination.adopt(blob) or blobs.packing.restore(blob)
    ]


def _is_sound(damage: Damage, repairs: Mapping[BlobId, Repair]) -> bool:
    found = repairs.get(damage.blob)
    return found is not None and found.outcome in {"repaired", "removed"}


def _facts(damage: Damage, needs: Needs, repairs: Mapping[BlobId, Repair]) -> Answer:
    done, swapped = repairs.get(damage.blob), damage.kind == "swapped"
    facts: Answer = {
        "blob": damage.blob.hex(),
        "form": damage.form,
        "kind": damage.kind,
        "meaning": MEANINGS[damage.kind],
        "bytes": damage.size,
        "chunks": list(damage.chunks[:64]),
        "bad_chunks": len(damage.chunks),
        "holds": damage.other.hex() if damage.other and swapped else None,
        "needed_by": [_need(need) for need in needs.why(damage.blob)],
        "outcome": done.outcome if done else "found",
        "fetch_bytes": done.fetch_bytes if done else 0,
        "local_bytes": done.local_bytes if done else 0,
    }
    if done and done.outcome == "beyond":
        facts["hint"] = NO_PEER
    return facts


def _need(need: Need) -> Answer:
    return {
        "kind": need.kind,
        "space": need.space.hex() if need.space else None,
        "content": need.id.hex() or None,
    }


def store_await(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Wait until blobs that were set aside are here, or nothing came for too long.

    Raises:
        BadInputError: what is named is no blob.
        NodeNeededError: no node runs here.
    """
    blobs = [_blob(text) for text in given.texts(asked, "blobs")]
    seconds = given.seconds(asked, "patience") or PATIENCE_S
    live = live_of(context)
    patience, first = Patience(live, seconds), live.brought()
    while missing := context.home.blobs.missing(blobs):
        if patience.over(0):
            break
        done = len(blobs) - len(missing)
        tell({"work": "repairing", "done": done, "total": len(blobs)})
        live.pause(POLL_S)
    return {
        "here": [blob.hex() for blob in blobs if blob not in missing],
        "missing": [blob.hex() for blob in missing],
        "fetched_bytes": live.brought() - first,
        "connected": [peer.hex() for peer in live.connected()],
        "notes": [],
    }


def _blob(text: str) -> BlobId:
    try:
        blob = bytes.fromhex(text)
    except ValueError:
        blob = b""
    if len(blob) != DIGEST_BYTES:
        raise BadInputError(f"{text!r} names no blob")
    return BlobId(blob)
