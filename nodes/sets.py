"""The sets of the spaces that a node hosts: in memory, and as records on disk.

Owns the order check -> persist -> join, and the answers that sessions need. Does not own
the rules (`crdtmerge.policy`), the protocol (`crdtmerge.sync`) nor the disk (`store`), and
knows no contents: those are `spaces`. Calls may come from several threads; each is atomic.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from threading import RLock
from typing import Final

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.digest import DIGEST_BYTES, Domain, digest
from crdtmerge.errors import NotAdmissibleError, NotFoundError
from crdtmerge.identity import AuthorId
from crdtmerge.orset import Forked, OpSet, forks_beside
from crdtmerge.policy import View
from crdtmerge.record import SignedRecord, verified
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
    Compacted,
    bytes_in_message,
    chains_first,
    check_chains_come,
    compacted,
    living,
    returned,
)
from .holding import Holding
from .store.base import RecordStore

RECORDS_PER_MESSAGE_BYTES: Final = MESSAGE_BYTES_MAX - (64 << 10)

Nodes = Mapping[bytes, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Who:
    """The member nodes of all spaces and where they listen, and what that came from."""

    nodes: Sequence[Nodes]
    added: Nodes
    members: frozenset[bytes]
    addresses: Nodes


def who(spaces: Sequence[Nodes], added: Nodes) -> Who:
    """Return who takes part in spaces with these nodes, with what the user added first."""
    known: dict[bytes, tuple[str, ...]] = {}
    for nodes in spaces:
        for node, addresses in nodes.items():
            before = known.get(node) or added.get(node, ())
            known[node] = tuple(dict.fromkeys((*before, *addresses)))
    return Who(spaces, added, frozenset(known), known)


def _same(before: Sequence[Nodes], after: Sequence[Nodes]) -> bool:
    """Tell whether they are the same: mostly the very same values, and else soon told."""
    same = all(a is b or a == b for a, b in zip(before, after, strict=False))
    return same and len(before) == len(after)


@dataclass(slots=True)
class Sets:
    """Every set of one home."""

    records: RecordStore
    _: KW_ONLY
    lock: RLock = field(default_factory=RLock)
    on_publish: Callable[[SpaceId, tuple[RecordId, ...]], None] | None = None
    author: AuthorId | None = None
    """Who signs here; for `on_returned`, which hears of its records from elsewhere."""
    on_returned: Callable[[SpaceId, RecordId], object] | None = None
    on_refused: Callable[[SpaceId, Forked], object] | None = None
    """Hears of forks of which a record was refused: no set will hold both."""
    on_compacted: Callable[[SpaceId, Compacted], object] | None = None
    """Hears of records that went from a set, since an owner listed them."""
    added: Mapping[bytes, tuple[str, ...]] = field(default_factory=dict)
    """Where the user says that nodes listen; replaced as a whole."""
    admission: Holding | None = None
    """Decides which records of others wait; without it none does."""
    _opsets: dict[SpaceId, OpSet] = field(default_factory=dict)
    _dead: dict[SpaceId, frozenset[RecordId]] = field(default_factory=dict)
    """Dead records that the store still keeps: an older version knew no epochs."""
    _last_who: "Who | None" = None

    def __post_init__(self) -> None:
        """Open the sets; their records were checked before they were stored."""
        for space in self.records.spaces():
            self._open(space)

    def _open(self, space: SpaceId) -> None:
        # SUBTLE: the trie first: one that is built anew puts the count of the log right.
        trie, log = self.records.trie(space), self.records.log(space)
        opset = self._opsets[space] = OpSet.stored(space, log, trie)
        if dead := opset.gone_since(OpSet(space, log)):
            self._dead[space] = dead

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
            if not self.records.trie_fits(space):
                self._open(space)
            return self._opsets[space]

    def _refresh(self, space: SpaceId, opset: OpSet) -> None:
        """Let `opset` be the set of `space`, over what the store keeps of it now."""
        log, trie = self.records.log(space), self.records.trie(space)
        self._opsets[space] = opset.stored_as(log, trie)

    def view(self, space: SpaceId) -> View:
        """Return what the set of `space` means now."""
        return self.opset(space).view

    def name(self, space: SpaceId) -> str:
        """Return the name that the genesis of `space` gives."""
        return self.view(space).rules.name

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
            new = {s.record.id: s for s in batch if s.record.id not in before}
            ordered = chains_first(new)
            after = before.insert(ordered)
            fresh = [signed for signed in ordered if signed.record.id in after]
            gone = after.gone_since(before) | self._dead.get(space, frozenset())
            # Before they go: the rows of what is gone cannot be read any more.
            news = compacted(before, after, gone, self.author) if gone else None
            if fresh or gone:
                self.records.append(space, fresh, gone)
                self._dead.pop(space, None)
                self._refresh(space, after)
            if news is not None and self.on_compacted is not None:
                self.on_compacted(space, news)
            return tuple(key for key in new if key in after)

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

    # --- what sessions ask (the port `crdtmerge.sync.pulls.Spaces`) ---------------------

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

        What its author's quota holds back is left for later, before it is verified; what
        is dead is dropped.
        """
        opset = self.opset(space)
        # SUBTLE: each once, or who sends one a thousand times uses up its author's quota.
        came = {RecordId(digest(Domain.RECORD, raw.data)): raw for raw in records}
        unknown = [raw for key, raw in came.items() if key not in opset]
        read = living(opset, check_chains_come(opset, unknown))
        if self.admission is None:
            return self.take(space, [verified(*pair) for pair in read])
        left = self.admission.leave([record for record, _ in read], self.author)
        batch = [verified(r, signature) for r, signature in read if r.id not in left]
        fresh = self.take(space, batch)
        waiting = [record for record, _ in read if record.id in left]
        self.admission.taken(space, [s.record for s in batch], waiting, left)
        return fresh

    def listed(self, space: SpaceId, record: bytes) -> bool:
        """Tell whether the set lists an id as dead, be it truly or not."""
        return RecordId(record) in self.opset(space).listing

    def said(self, author: AuthorId) -> int:
        """Return how many records of `author` are here, in all spaces."""
        with self.lock:
            return self.records.said(author)

    # --- who ----------------------------------------------------------------------------

    def members(self) -> frozenset[bytes]:
        """Return the transport keys of all members of all spaces."""
        return self._who().members

    def shared_with(self, node: bytes) -> frozenset[SpaceId]:
        """Return the spaces in which `node` belongs to an author with rights."""
        return frozenset(s for s in self.all() if node in self.view(s).nodes)

    def attesters(self, space: SpaceId) -> frozenset[bytes]:
        """Return the nodes whose attestations count: all, or those of the highest ranks.

        Keys cost nothing in an open space: however many a newcomer makes, they never
        push out who has a higher rank.
        """
        view = self.view(space)
        if len(view.nodes) <= ATTESTERS_MAX:  # asked after every record
            return frozenset(view.nodes)

        def low(node: bytes) -> int:
            authors = view.node_authors.get(node, ())
            return -max((view.ranks.get(a, 0) for a in authors), default=0)

        ordered = sorted(view.nodes, key=lambda node: (low(node), node))
        return frozenset(ordered[:ATTESTERS_MAX])

    def addresses(self) -> Mapping[bytes, tuple[str, ...]]:
        """Return the addresses of every member node: what the user added, then its own."""
        return self._who().addresses

    def _who(self) -> "Who":
        """Return who takes part: asked every second, so made anew only after a change."""
        added = self.added
        nodes = [self.view(space).nodes for space in self.all()]
        last = self._last_who
        if last is None or last.added is not added or not _same(last.nodes, nodes):
            last = self._last_who = who(nodes, added)
        return last

    def node_authors(self, space: SpaceId) -> Mapping[bytes, tuple[AuthorId, ...]]:
        """Return the member nodes of a space, and the authors that claim each."""
        return self.view(space).node_authors
