"""The verbs `store pack` and `store unpack`: cold blobs in fewer bytes, and back.

Owns what they answer, and the note of what a resolve uses. Does not own which blobs are
cold (`nodes.upkeep.packing`), nor how one is packed (`store.packing`).
"""

from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress

from crdtmerge.digest import BlobId
from crdtmerge.errors import ContentMissingError, CorruptBlobError, LocalError
from crdtmerge.manifest import Manifest

from ..home import STORE_FILE, Home
from ..store.database import Database
from ..store.packing import Order, Packed
from ..store.places import Places
from ..store.rows import BlobRows
from ..upkeep.packing import OLDER_S, cold
from . import arguments as given
from .live import Answer, Arguments, Context, Tell


def store_pack(context: Context, asked: Arguments, tell: Tell) -> Answer:
    """Pack what no resolve used for a while, where that pays; or say what it would give.

    A blob that cannot be read, or whose base cannot, stays as it is and is named.

    Raises:
        BadInputError: the duration is no number of seconds.
        MachineError: the disk refused; every blob is whole, packed or raw.
    """
    older = given.count(asked, "older_than", OLDER_S, least=0)
    dry, home = given.flag(asked, "dry_run"), context.home
    orders = cold(home, context.spaces, int(context.clock()), older)
    total = sum(home.blobs.rows.find(order.blob).size for order in orders)
    count = _Count("estimating" if dry else "packing", total, tell)
    paid, notes = list[Packed](), list[str]()
    for order in orders:
        count.begin()
        try:
            result = _packed(home, order, count, dry=dry)
        except (ContentMissingError, CorruptBlobError) as e:
            notes.append(f"{e}; it stays as it is")
            continue
        count.end(result.before)
        paid += [result] if result.form is not None else []
    return {
        "dry_run": dry,
        "older_than": older,
        "cold": {"count": len(orders), "bytes": total},
        "packed": {
            "count": len(paid),
            "bytes": sum(result.before for result in paid),
            "stored_bytes": sum(result.after for result in paid),
        },
        "forms": dict(sorted(Counter(r.form.name for r in paid if r.form).items())),
        "notes": notes,
    }


def _packed(home: Home, order: Order, count: "_Count", *, dry: bool) -> Packed:
    """Pack one blob, or estimate it, while collection leaves it and its base alone."""
    packing = home.blobs.packing
    with home.blobs.leases.hold(
        [order.blob] if order.against is None else [order.blob, order.against]
    ):
        return packing.estimate(order) if dry else packing.pack(order, count.add)


def store_unpack(context: Context, _asked: Arguments, tell: Tell) -> Answer:
    """Give every packed blob its raw file back.

    Raises:
        MachineError: the disk refused; every blob is whole, packed or raw.
    """
    home = context.home
    packed = [h for h in home.blobs.holdings() if h.form == "packed"]
    count = _Count("unpacking", sum(h.size for h in packed), tell)
    done, notes = list[int](), list[str]()
    for holding in packed:
        count.begin()
        with home.blobs.leases.hold([holding.blob]):
            try:
                done.append(home.blobs.packing.unpack(holding.blob, count.add))
            except (ContentMissingError, CorruptBlobError) as e:
                notes.append(f"{e}; it stays packed. {e.hint}")
        count.end(holding.size)
    return {
        "unpacked": {
            "count": len(done),
            "bytes": sum(done),
            "stored_bytes": sum(h.stored for h in packed),
        },
        "notes": notes,
    }


def note_use(home: Home, manifests: Iterable[Manifest], now: int) -> None:
    """Keep that a resolve uses these tensors now; what it cannot keep does no harm.

    SUBTLE: a resolve reads beside a running node, without the home's lock. It changes this
    one column through SQLite, whose own locks suffice for it; nothing else depends on it
    but which tensors are cold.
    """
    blobs: set[BlobId] = {e.blob for found in manifests for e in found.tensors}
    with suppress(LocalError):
        if home.lock:
            home.blobs.rows.mark_used(blobs, now)
            return
        with closing(Database(home.path / STORE_FILE, write=True)) as database:
            BlobRows(database, Places(home.path)).mark_used(blobs, now)


class _Count:
    """Progress over several blobs, in raw bytes."""

    def __init__(self, work: str, total: int, tell: Tell) -> None:
        self._work, self._total, self._tell = work, total, tell
        self._before = self._done = 0

    def begin(self) -> None:
        """Note where the next blob begins."""
        self._before = self._done

    def add(self, count: int) -> None:
        """Count bytes of this blob."""
        self._done += count
        told = {"work": self._work, "done": self._done, "total": self._total}
        self._tell({**told, "unit": "bytes"})

    def end(self, size: int) -> None:
        """Count what was skipped of it."""
        self.add(self._before + size - self._done)
