"""The spaces that a node hosts: sets in memory, records on disk, contents in blobs.

Owns the order check -> persist -> join, and the answers that sessions need. Does not own
the rules (`crdtmerge.policy`), the protocol (`crdtmerge.sync`) nor the disk (`store`).
Calls may come from several threads; each is atomic.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock, RLock
from typing import Final

from crdtmerge.bodies import Genesis, RecordId, SpaceId
from crdtmerge.digest import DIGEST_BYTES, BlobId, ContentId, Domain, digest
from crdtmerge.errors import (
    ContentMissingError,
    FaultyContributionError,
    NotAdmissibleError,
    NotFoundError,
)
from crdtmerge.identity import AuthorId
from crdtmerge.manifest import Manifest, TensorEntry
from crdtmerge.orset import Forked, OpSet, forks_beside
from crdtmerge.policy import View, Visible
from crdtmerge.record import SignedRecord, verified
from crdtmerge.resolve.settings import Contribution
from crdtmerge.sync.messages import (
    ATTESTERS_MAX,
    MESSAGE_BYTES_MAX,
    FeedReply,
    Heartbeat,
    RecordsReply,
    SignedBytes,
)
from crdtmerge.trie import Trie

from .batches import (
    bytes_in_message,
    chains_first,
    check_chains_come,
    join_sizes,
    returned,
)
from .choices import Part
from .holding import Holding
from .manifests import Known, Manifests
from .offers import Offer, Sizes, beyond
from .store.base import BlobStore, RecordStore

RECORDS_PER_MESSAGE_BYTES: Final = MESSAGE_BYTES_MAX - (64 << 10)
WANTED_MAX: Final = 1024
"""Blobs of one contribution that are looked for at a time."""


@dataclass(frozen=True, slots=True)
class Use:
    """A tensor of a visible contribution."""

    space: SpaceId
    content: ContentId
    manifest: Manifest
    tensor: TensorEntry


@dataclass(slots=True)
class Spaces:
    """Every space of one home."""

    records: RecordStore
    blobs: BlobStore
    lock: RLock = field(default_factory=RLock)
    on_publish: Callable[[SpaceId, tuple[RecordId, ...]], None] | None = None
    author: AuthorId | None = None
    """Who signs here; for `on_returned`, which hears of its records from elsewhere."""
    on_returned: Callable[[SpaceId, RecordId], object] | None = None
    on_refused: Callable[[SpaceId, Forked], object] | None = None
    """Hears of forks of which a record was refused: no set will hold both."""
    added: Mapping[bytes, tuple[str, ...]] = field(default_factory=dict)
    """Where the user says that nodes listen; replaced as a whole."""
    admission: Holding | None = None
    """Decides which records of others wait; without it none does."""
    _opsets: dict[SpaceId, OpSet] = field(default_factory=dict)
    _said: Counter[AuthorId] = field(default_factory=Counter)
    author_bytes: int = 0
    """Bytes of one author's contributions that come unasked; 0 is without limit."""
    pinned: Callable[[], Container[tuple[SpaceId, ContentId]]] = frozenset
    """The contributions that the user wants here, whatever they take."""
    _sizes: Sizes = field(default_factory=Sizes)
    _looking: Lock = field(default_factory=Lock)
    _looks: int = 0
    _complete: dict[SpaceId, set[Visible]] = field(default_factory=dict)
    _lacking: dict[SpaceId, dict[Visible, dict[BlobId, int]]] = field(
        default_factory=dict
    )
    _manifests: Manifests = field(init=False)

    def __post_init__(self) -> None:
        """Read the sets; their records were checked before they were stored."""
        self._manifests = Manifests(self.blobs)
        for space in self.records.spaces():
            loaded = self.records.load(space)
            self._opsets[space] = OpSet(space).insert(loaded)
            self._said.update(signed.record.author for signed in loaded)

    # --- the sets -----------------------------------------------------------------------

    def all(self) -> list[SpaceId]:
        """Return the ids of the spaces, sorted."""
        with self.lock:
            return sorted(self._opsets)

    def opset(self, space: SpaceId) -> OpSet:
        """Return the set of `space`.

        Raises:
            NotFoundError: this home does not take part in it.
        """
        with self.lock:
            if space not in self._opsets:
                raise NotFoundError(f"no space {space.hex()[:12]} in this home")
            return self._opsets[space]

    def view(self, space: SpaceId) -> View:
        """Return what the set of `space` means now."""
        return self.opset(space).view

    def name(self, space: SpaceId) -> str:
        """Return the name that the genesis of `space` gives."""
        body = self.view(space).genesis.body
        assert isinstance(body, Genesis)
        return body.name

    def commit(
        self, space: SpaceId, batch: Sequence[SignedRecord]
    ) -> tuple[RecordId, ...]:
        """Check, persist, then join `batch`; return the ids that were new.

        Raises:
            RemoteError: a record breaks a rule; nothing was stored.
            MachineError: the store failed; nothing was joined.
        """
        with self.lock:
            before = self._opsets.get(space, OpSet(space))
            after = before.insert(batch)
            fresh = {s.record.id: s for s in batch if s.record.id not in before}
            if fresh:
                self.records.append(space, chains_first(fresh))
                self._opsets[space] = after
                self._said.update(s.record.author for s in fresh.values())
            return tuple(fresh)

    def publish(self, space: SpaceId, batch: Sequence[SignedRecord]) -> None:
        """Commit records that were made here, and tell the running node, if one runs."""
        self._tell(space, self.commit(space, batch))

    def take(
        self, space: SpaceId, batch: Sequence[SignedRecord]
    ) -> tuple[RecordId, ...]:
        """Commit records that came from elsewhere; notice those that we should know.

        A record of this home's author above its last number, or one that has the number
        of another, was signed by a state of this home that is lost here, or by a copy.
        """
        with self.lock:
            before = self._opsets.get(space, OpSet(space))
            try:
                fresh = self.commit(space, batch)
            except NotAdmissibleError:
                forks = forks_beside(before, batch) if space in self._opsets else {}
                if forks and self.on_refused is not None:
                    self.on_refused(space, forks)
                raise
            if self.on_returned is not None:
                for record in returned(before, self._opsets, fresh, self.author):
                    self.on_returned(space, record)
            return fresh

    def bring(self, space: SpaceId, batch: Sequence[SignedRecord]) -> None:
        """Take records that a command brought, and tell the running node, if one runs."""
        self._tell(space, self.take(space, batch))

    def _tell(self, space: SpaceId, fresh: tuple[RecordId, ...]) -> None:
        if self.on_publish is not None:
            self.on_publish(space, fresh)

    # --- what sessions ask (the port `crdtmerge.sync.session.Spaces`) ---------------------

    def heartbeat(self, space: SpaceId) -> Heartbeat:
        """Return where `space` stands here."""
        with self.lock:
            opset = self.opset(space)
            last = self.records.last(space)
            generation = self.records.generation
            return Heartbeat(space, opset.root, len(opset), generation, last)

    def trie(self, space: SpaceId) -> Trie:
        """Return the trie over the record ids of `space`."""
        return self.opset(space).trie

    def feed(self, space: SpaceId, after: int) -> FeedReply:
        """Return the records stored after sequence `after`, up to one message."""
        found, through, more = self.records.after(
            space, after, RECORDS_PER_MESSAGE_BYTES
        )
        generation = self.records.generation
        return FeedReply(space, generation, through, more, tuple(found))

    def fetch(self, space: SpaceId, ids: Sequence[bytes]) -> RecordsReply:
        """Return the records with these ids, each after the chain it hangs on."""
        opset = self.opset(space)
        chosen: dict[RecordId, SignedRecord] = {}
        unsent: list[bytes] = []
        # All ids may come back as unsent: there must be room for them.
        room = RECORDS_PER_MESSAGE_BYTES - DIGEST_BYTES * len(ids)
        for key in ids:
            signed = opset.signed.get(RecordId(key))
            links = (*opset.chain(signed.record), signed) if signed else ()
            added = [link for link in links if link.record.id not in chosen]
            size = sum(bytes_in_message(link) for link in added)
            if signed is None or (chosen and size > room):
                unsent.append(key)
                continue
            room -= size
            chosen |= {link.record.id: link for link in added}
        records = tuple(
            SignedBytes(s.record.data, s.signature) for s in chosen.values()
        )
        return RecordsReply(space, records, tuple(unsent))

    def receive(
        self, space: SpaceId, records: Sequence[SignedBytes]
    ) -> tuple[RecordId, ...]:
        """Check, persist and join what a peer sent; return the ids that were new.

        What its author's quota holds back is left for later, before it is verified.
        """
        opset = self.opset(space)
        # SUBTLE: each once, or who sends one a thousand times uses up its author's quota.
        came = {RecordId(digest(Domain.RECORD, raw.data)): raw for raw in records}
        unknown = [raw for key, raw in came.items() if key not in opset]
        read = check_chains_come(opset, unknown)
        if self.admission is None:
            return self.take(space, [verified(*pair) for pair in read])
        left = self.admission.leave([record for record, _ in read], self.author)
        batch = [verified(r, signature) for r, signature in read if r.id not in left]
        fresh = self.take(space, batch)
        waiting = [record for record, _ in read if record.id in left]
        self.admission.taken(space, [s.record for s in batch], waiting, left)
        return fresh

    def said(self, author: AuthorId) -> int:
        """Return how many records of `author` are here, in all spaces."""
        with self.lock:
            return self._said[author]

    # --- who ----------------------------------------------------------------------------

    def members(self) -> frozenset[bytes]:
        """Return the transport keys of all members of all spaces."""
        return frozenset(
            node for space in self.all() for node in self.view(space).nodes
        )

    def shared_with(self, node: bytes) -> frozenset[SpaceId]:
        """Return the spaces in which `node` belongs to an author with rights."""
        return frozenset(s for s in self.all() if node in self.view(s).nodes)

    def attesters(self, space: SpaceId) -> frozenset[bytes]:
        """Return the nodes whose attestations count: all, or those of the highest ranks.

        Keys cost nothing in an open space: however many a newcomer makes, they never
        push out who has a higher rank.
        """
        view = self.view(space)

        def low(node: bytes) -> int:
            authors = view.node_authors.get(node, ())
            return -max((view.ranks.get(a, 0) for a in authors), default=0)

        ordered = sorted(view.nodes, key=lambda node: (low(node), node))
        return frozenset(ordered[:ATTESTERS_MAX])

    def addresses(self) -> dict[bytes, tuple[str, ...]]:
        """Return the addresses of every member node: what the user added, then its own."""
        known: dict[bytes, tuple[str, ...]] = {}
        for space in self.all():
            for node, addresses in self.view(space).nodes.items():
                before = known.get(node) or self.added.get(node, ())
                known[node] = tuple(dict.fromkeys((*before, *addresses)))
        return known

    # --- contents -----------------------------------------------------------------------

    def manifest(self, visible: Visible) -> Manifest:
        """Return the manifest of a visible contribution.

        Raises:
            ContentMissingError: none of its manifests has arrived.
            FaultyContributionError: those that arrived are not what their adds say.
        """
        return self._known(visible).manifest

    def _known(self, visible: Visible) -> Known:
        arrived = [(b, s) for b, s in visible.manifests if self.blobs.has(b)]
        for blob, size in arrived:
            found = self._manifests.read(blob, size)
            if found is not None and found.content == visible.content:
                return found
        if len(arrived) == len(visible.manifests):
            raise FaultyContributionError(
                visible.content, "its manifest is not the one that was signed"
            )
        raise ContentMissingError(
            f"the manifest of contribution {visible.content.hex()[:12]} has not arrived"
        )

    def arrived(self, blob: BlobId, size: int) -> Known | None:
        """Return the manifest that lies in a blob, if it is here, whole and well-formed."""
        try:
            return self._manifests.read(blob, size) if self.blobs.has(blob) else None
        except ContentMissingError:  # it went meanwhile, or its file is gone
            return None

    def look_again(self) -> None:
        """Take nothing for granted of what is here: blobs were lost, or forgotten.

        SUBTLE: another thread may be in the middle of `wanted`, and have seen them.
        """
        with self._looking:
            self._looks += 1
            self._complete.clear()
            self._lacking.clear()

    def contributions(self, visible: Iterable[Visible]) -> list[Contribution]:
        """Return the visible contributions as layer 2 sees them.

        Raises:
            ContentMissingError: a manifest has not arrived.
            FaultyContributionError: a manifest is not what its add says.
        """
        return [
            Contribution(v.content, v.weight, self.manifest(v), v.authors, tags=v.tags)
            for v in visible
        ]

    def missing(self, space: SpaceId) -> dict[BlobId, int]:
        """Return the blobs that visible contributions need and we lack, with sizes.

        Tensors are known only once their manifest is here. Where two manifests give one
        blob two sizes, the larger is named: it is an upper bound, and the bytes that
        come prove the true one.
        """
        missing: dict[BlobId, int] = {}
        for visible in self.view(space).visible:
            join_sizes(missing, self.lacking(space, visible))
        return missing

    def lacking(self, space: SpaceId, visible: Visible) -> dict[BlobId, int]:
        """Return what one contribution needs and we lack, with sizes."""
        if visible in self._complete.get(space, set()):
            return {}
        needed = self._needed(visible)
        return {blob: needed[blob] for blob in self.blobs.missing(needed)}

    def size(self, visible: Visible) -> int:
        """Return how many bytes one contribution has, as far as that is known here."""
        return sum(self._needed(visible).values())

    def wanted(self, space: SpaceId) -> dict[BlobId, int]:
        """Return what to fetch next, of all contributions that are not beyond a quota."""
        wanted: dict[BlobId, int] = {}
        for part in self.parts(space):
            if not part.beyond:
                join_sizes(wanted, part.blobs)
        return wanted

    def parts(self, space: SpaceId) -> list[Part]:
        """Return what to fetch next: of each visible contribution, a bounded part."""
        lacking = self._survey(space)
        beyond = self._beyond() if lacking else frozenset()
        return [
            Part(visible.authors, part, (space, visible.content) in beyond)
            for visible, part in lacking.items()
        ]

    def _survey(self, space: SpaceId) -> dict[Visible, dict[BlobId, int]]:
        """Return of each contribution that is not whole a part of what it lacks.

        The node asks this after every batch of records, and a manifest may be as long as
        its author likes: it is gone through again only once a part has come.
        """
        with self._looking:
            looks = self._looks
            complete = self._complete.get(space, set())
            before = self._lacking.get(space, {})
        whole: set[Visible] = set()
        lacking: dict[Visible, dict[BlobId, int]] = {}
        for visible in self.view(space).visible:
            part = {} if visible in complete else self._part(visible, before)
            if part is None:
                continue
            if part:
                lacking[visible] = part
            else:
                whole.add(visible)
        with self._looking:
            if looks == self._looks:
                self._complete[space], self._lacking[space] = whole, lacking
        return lacking

    def beyond(self) -> frozenset[tuple[SpaceId, ContentId]]:
        """Return the contributions, of all spaces, that the bytes of an author keep out."""
        for space in self.all() if self.author_bytes else ():
            self._survey(space)
        return self._beyond()

    def _beyond(self) -> frozenset[tuple[SpaceId, ContentId]]:
        """Return the same by what is known to be whole."""
        if not self.author_bytes:
            return frozenset()
        offered = [
            (space, visible, self._sizes.declared(visible, records, self._size))
            for space in self.all()
            for records in [self.opset(space).records]
            for visible in self.view(space).visible
        ]
        total = sum(max(sizes.values(), default=0) for _, _, sizes in offered)
        if total <= self.author_bytes:
            return frozenset()  # the usual case, and this is asked at each look
        pinned, offers = self.pinned(), list[Offer]()
        for space, visible, sizes in offered:
            whole = visible in self._complete.get(space, set())
            here = whole or (space, visible.content) in pinned
            offers.append(Offer(space, visible.content, sizes, here))
        return beyond(offers, self.author_bytes, self.author)

    def _size(self, visible: Visible) -> int | None:
        """Return how large a contribution is by its manifest, if that is here.

        Asked of all at each look: of a thousand that have yet to come, none is raised for.
        """
        if not any(self.blobs.has(blob) for blob, _ in visible.manifests):
            return None
        try:
            return sum(self._known(visible).blobs.values())
        except (ContentMissingError, FaultyContributionError):
            return None

    def manifests(self, space: SpaceId) -> frozenset[BlobId]:
        """Return the blobs that are named as manifests of visible contributions."""
        visible = self.view(space).visible
        return frozenset(blob for v in visible for blob, _ in v.manifests)

    def _part(
        self, visible: Visible, before: Mapping[Visible, dict[BlobId, int]]
    ) -> dict[BlobId, int] | None:
        """Return up to `WANTED_MAX` blobs that a contribution lacks; None if it is faulty.

        What is left of the last part comes first.
        """
        last = before.get(visible, {})
        if left := self.blobs.missing(last):
            return {blob: last[blob] for blob in left}
        needed = self._needed(visible)
        if not needed:
            return None
        lacking = (blob for blob in needed if not self.blobs.has(blob))
        return {blob: needed[blob] for blob in islice(lacking, WANTED_MAX)}

    def serves(self, space: SpaceId, blob: BlobId) -> bool:
        """Tell whether a visible contribution of `space` needs the blob.

        A home holds the contents of all its spaces: who is a member of one may fetch
        what belongs to that one, and nothing else.
        """
        visible = self.view(space).visible
        if any(blob == named for v in visible for named, _ in v.manifests):
            return True
        return any(blob in self._named(v) for v in visible)

    def uses(self, blob: BlobId) -> list[Use]:
        """Return the tensors of visible contributions, in any space, of these bytes."""
        return [
            Use(space, visible.content, known.manifest, tensor)
            for space in self.all()
            for visible in self.view(space).visible
            if blob in self._named(visible)
            for known in [self._known(visible)]
            for tensor in known.manifest.tensors
            if tensor.blob == blob
        ]

    def _named(self, visible: Visible) -> Mapping[BlobId, int]:
        try:
            return self._known(visible).blobs
        except (ContentMissingError, FaultyContributionError):
            return {}

    def _needed(self, visible: Visible) -> dict[BlobId, int]:
        try:
            return self._known(visible).blobs
        except ContentMissingError:
            # SUBTLE: every one that is not here, not the first alone: that one may have
            # arrived and be another's manifest, and an honest add stands behind it.
            absent = self.blobs.missing(blob for blob, _ in visible.manifests)
            return {b: s for b, s in visible.manifests if b in absent}
        except FaultyContributionError:
            return {}

    def progress(self, space: SpaceId) -> Mapping[bytes, bool]:
        """Tell for each visible content id whether all its bytes are here."""
        complete: dict[bytes, bool] = {}
        for visible in self.view(space).visible:
            try:
                blobs = self._known(visible).blobs
                complete[visible.content] = not self.blobs.missing(blobs)
            except (ContentMissingError, FaultyContributionError):
                complete[visible.content] = False
        return complete
