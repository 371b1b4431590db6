"""Collection takes exactly what nothing needs, in random histories over a real store.

The oracle keeps its own books: who offered what, what was taken back, pinned or leased, and
since when collection saw nothing need a blob. It shares no code with `nodes.upkeep`.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import BlobId, ContentId, blob_id_of, chunk_digests
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica
from nodes.home import Home, open_home
from nodes.spaces import Spaces
from nodes.store.holdings import Holding
from nodes.store.marks import Pin
from nodes.upkeep.collecting import GRACE_S, survey, sweep
from tests.integration.living import BASE, found, make_home

MEMORY = Path("/dev/shm")  # syncs cost nothing there
PARTS = tuple(bytes([n]) * (n + 1) for n in range(7))
MODELS = ((0, 1), (1, 2), (2, 3, 4), (4,))
"""Which parts make up each model that is offered: neighbours share some."""
BASE_PARTS = (5, 1)
LONE = 6
"""A part that no model has."""
DAY = 24 * 3600


def manifest_of(parts: tuple[int, ...], kind: str = "full") -> Manifest:
    entries = tuple(
        TensorEntry(f"t{i}", "U8", (len(PARTS[n]),), blob_id_of(PARTS[n]))
        for i, n in enumerate(parts)
    )
    return Manifest(kind, BASE if kind == "full" else b"", entries)


MANIFESTS = tuple(manifest_of(parts) for parts in MODELS)
BYTES = {blob_id_of(data): data for data in (*PARTS, *(m.encode() for m in MANIFESTS))}
model = st.integers(0, len(MODELS) - 1)
part = st.integers(0, len(PARTS) - 1)


class Collection(RuleBasedStateMachine):
    """One home and its books."""

    def __init__(self) -> None:
        super().__init__()
        place = MEMORY if MEMORY.is_dir() else None
        self.folder = tempfile.TemporaryDirectory(dir=place)
        self.path = Path(self.folder.name) / "home"
        self.home: Home = make_home(self.path)
        self.leases = ExitStack()
        self.now = 1_000_000_000
        self.live: dict[int, list[RecordId]] = {n: [] for n in range(len(MODELS))}
        self.bans: dict[int, RecordId] = {}
        self.offered: set[int] = set()
        self.pinned: set[int] = set()
        self.leased: list[BlobId] = []
        self.against: dict[BlobId, BlobId] = {}
        self.partial: set[BlobId] = set()
        self.stale: set[BlobId] = set()
        self.since: dict[BlobId, int] = {}
        self.present: set[BlobId] = set()

    @initialize()
    def begin(self) -> None:
        """Found a space, with a base that is here."""
        self.space = found(self.home)
        self.spaces = Spaces(self.home.records, self.home.blobs)
        base = manifest_of(BASE_PARTS, "base")
        self.base = {self.home.blobs.put(PARTS[n]) for n in BASE_PARTS}
        self.base.add(self.home.blobs.put(base.encode()))
        BYTES[base.blob] = base.encode()
        self.home.local.set_base(SpaceId(self.space), self.path, base.blob)
        self.present |= self.base

    def teardown(self) -> None:
        """Close the home and remove it."""
        self.leases.close()
        self.home.close()
        self.folder.cleanup()

    # --- what happens -------------------------------------------------------------------

    def say(self, signed: SignedRecord) -> RecordId:
        """Commit a record; return its id."""
        self.spaces.publish(self.space, [signed])
        return signed.record.id

    def replica(self) -> Replica:
        """Return the set as its owner sees it."""
        return Replica(self.spaces.opset(self.space), self.home.author)

    def put(self, blob: BlobId) -> None:
        """Let a blob be here."""
        if blob in self.against:
            return  # it is here: what is packed in truth is seen to be so
        assert self.home.blobs.put(BYTES[blob]) == blob
        self.present.add(blob)
        if blob in self.partial:
            self.partial.remove(blob)
            self.stale.add(blob)

    @rule(n=model, bytes_come=st.sampled_from(["all", "manifest", "none"]))
    def offer(self, n: int, bytes_come: str) -> None:
        """An add is signed; its bytes are here, or come later, or never."""
        manifest = MANIFESTS[n]
        if bytes_come != "none":
            self.put(manifest.blob)
        if bytes_come == "all":
            for blob in manifest.blobs():
                self.put(blob)
        made = self.replica().contribute(manifest, weight=DECIMAL_UNIT, note="")
        self.live[n].append(self.say(made))
        self.offered.add(n)

    @rule(n=part)
    def arrive(self, n: int) -> None:
        """A blob comes, needed or not."""
        self.put(blob_id_of(PARTS[n]))

    @precondition(lambda self: any(self.live.values()))
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        """Take all adds of a model back."""
        n = data.draw(st.sampled_from([n for n, adds in self.live.items() if adds]))
        adds, self.live[n] = self.live[n], []
        self.say(self.replica().remove(adds))

    @rule(n=model)
    def ban(self, n: int) -> None:
        """Ban a model."""
        if n not in self.bans:
            content = MANIFESTS[n].content_id
            self.bans[n] = self.say(self.replica().ban("content", content))

    @precondition(lambda self: self.bans)
    @rule(data=st.data())
    def lift(self, data: st.DataObject) -> None:
        """Lift a ban."""
        n = data.draw(st.sampled_from(sorted(self.bans)))
        self.say(self.replica().lift(self.bans.pop(n)))

    @rule(n=model)
    def pin(self, n: int) -> None:
        """Pin a model, whether it was offered or not."""
        self.home.marks.pin(Pin(self.space, ContentId(MANIFESTS[n].content_id)))
        self.pinned.add(n)

    @precondition(lambda self: self.pinned)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        """Take a pin back."""
        n = data.draw(st.sampled_from(sorted(self.pinned)))
        content = ContentId(MANIFESTS[n].content_id)
        assert self.home.marks.unpin(self.space, content)
        self.pinned.remove(n)

    @rule(ns=st.lists(part, max_size=2))
    def lease(self, ns: list[int]) -> None:
        """Hold some blobs."""
        blobs = [blob_id_of(PARTS[n]) for n in ns]
        self.leases.enter_context(self.home.blobs.leases.hold(blobs))
        self.leased += blobs

    @rule()
    def let_go(self) -> None:
        """End all leases."""
        self.leases.close()
        self.leased.clear()

    @precondition(lambda self: len(self.present) > 1)
    @rule(data=st.data())
    def pack(self, data: st.DataObject) -> None:
        """A blob is packed against another, as its row says; no chains, as the store."""
        drawn = st.sampled_from(sorted(self.present))
        blob, base = data.draw(drawn), data.draw(drawn)
        manifests = {m.blob for m in MANIFESTS} | self.base
        taken = {*self.against, *self.against.values()}
        if blob == base or blob in manifests or {blob, base} & taken:
            return
        packing = self.home.blobs.rows.pack(blob, base, len(BYTES[blob]))
        assert packing
        own, places = self.home.blobs.path_of(blob), self.home.blobs._places
        own.rename(places.packed(blob))
        self.against[blob] = base

    @rule(n=part)
    def begin_download(self, n: int) -> None:
        """A download begins, and stops."""
        blob, data = blob_id_of(PARTS[n]), PARTS[n]
        if blob not in self.present:
            self.home.blobs.begin(blob, len(data), chunk_digests(data))
            self.home.blobs.pause(blob)
            self.partial.add(blob)

    @rule(days=st.sampled_from([1, 3, 7]))
    def wait(self, days: int) -> None:
        """Let days pass."""
        self.now += days * DAY

    @rule()
    def reopen(self) -> None:
        """The home is closed and opened, as by the next command."""
        self.stale.clear()
        self.let_go()
        self.home.close()
        self.home = open_home(self.path, write=True)
        self.spaces = Spaces(self.home.records, self.home.blobs)

    # --- the oracle ---------------------------------------------------------------------

    def unread(self) -> bool:
        """Tell whether a manifest that counts is not here."""
        return any(MANIFESTS[n].blob not in self.present for n in self.counted())

    def counted(self) -> set[int]:
        """Return the models that are visible or pinned (and ever offered)."""
        visible = {n for n, adds in self.live.items() if adds and n not in self.bans}
        return visible | (self.pinned & self.offered)

    def needed(self) -> set[BlobId]:
        """Return what is needed: for manifests that are here, what they name."""
        blobs = self.base | set(self.leased)
        for n in self.counted():
            blobs.add(MANIFESTS[n].blob)
            if MANIFESTS[n].blob in self.present:
                blobs |= set(MANIFESTS[n].blobs())
        return blobs | {b for p, b in self.against.items() if p in blobs}

    def expected(self, grace: int) -> set[BlobId]:
        """Note since when each blob is idle; return what goes after `grace`."""
        wait = max(grace, GRACE_S) if self.unread() else grace
        idle = (self.present | self.partial) - self.needed()
        self.since = {blob: self.since.get(blob, self.now) for blob in idle}
        ripe = {blob for blob in idle if self.now - self.since[blob] >= wait}
        return ripe - {b for p, b in self.against.items() if p not in ripe}

    @rule(grace=st.sampled_from([0, DAY, GRACE_S]))
    def collect(self, grace: int) -> None:
        """Collect, and compare with the books."""
        going = self.expected(grace)
        dry = survey(self.home, self.spaces, self.now, grace, keep=False)
        assert self.gone(dry.going()) == (going, self.stale)
        swept = sweep(self.home, self.spaces, self.now, grace)
        assert swept.in_the_way == ""
        assert self.gone(swept.taken) == (going, self.stale - set(self.leased))
        self.stale &= set(self.leased)
        self.present -= going
        self.partial -= going
        self.since = {b: s for b, s in self.since.items() if b not in going}
        self.against = {p: b for p, b in self.against.items() if p not in going}

    def gone(self, holdings: list[Holding]) -> tuple[set[BlobId], set[BlobId]]:
        """Return what goes, and of which blobs a stale part goes."""
        stale = {h.blob for h in holdings if h.form == "stale"}
        return {h.blob for h in holdings if h.form != "stale"}, stale

    @invariant()
    def what_is_there_is_there(self) -> None:
        """Rows and files are those of the books: nothing went beside a collection."""
        if not hasattr(self, "base"):
            return
        blobs = self.home.blobs
        assert set(blobs.ids()) == self.present
        partial = {h.blob for h in blobs.holdings() if h.form == "partial"}
        assert partial == self.partial
        for blob in self.present - self.against.keys():
            assert bytes(blobs.read(blob, len(BYTES[blob]))) == BYTES[blob]
        packed = [blobs._places.packed(blob) for blob in self.against]
        assert all(path.exists() for path in packed)


def test_collection_takes_what_nothing_needs_and_nothing_else() -> None:
    """Whatever was offered, taken back, banned, lifted, pinned, leased, in any order."""
    chosen = settings(max_examples=30, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(Collection, settings=chosen)
