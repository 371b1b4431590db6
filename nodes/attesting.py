"""Who attests what: attestations as they travel, and the lists of who differs.

Owns the tables of all spaces, what is said of them to which peer, and the one list of
tensors that is being asked for. Does not own the form of an attestation or of a list
(`crdtmerge.sync`), where ours lie on the disk and who signs them (`attested`), nor what
people are told of a difference (`operations.agreeing`). It is sans-IO, a part of `Node`.

News is pushed to a few peers. What did not arrive is noticed by the mark in a heartbeat
and asked for, once the records are the same on both sides: then both take the same nodes
for members, and their tables become equal.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeAlias

from crdtmerge.bodies import SpaceId
from crdtmerge.errors import MalformedMessageError
from crdtmerge.manifest import TensorEntry
from crdtmerge.sync.attestations import Attestation, Heard, Table, decode_attestation
from crdtmerge.sync.listings import TENSORS_MAX, Listing, page
from crdtmerge.sync.messages import (
    SPEAKS_ATTESTATIONS,
    Attestations,
    AttestationsRequest,
    Beside,
    Heartbeat,
    SignedBytes,
    TensorsReply,
    TensorsRequest,
)
from crdtmerge.sync.session import Session
from crdtmerge.trie import Trie

from .gossip import RUMOUR_FANOUT, pick

WINDOW_TICKS: Final = 10
"""Ticks after which what was spent of the bounds below is forgotten."""
NEWS_MAX: Final = 4
"""Attestations of one node that are taken and passed on in a window: a node that attests
faster is heard of later, by its last word."""
ANSWERS_MAX: Final = 4
"""Requests of one peer that are answered, or made to it, in a window."""
LISTS_MAX: Final = 2
"""Lists that one peer is asked for in a window, however often it attests another model."""
LIST_TICKS_MAX: Final = 30
"""Ticks that a page may take before somebody else is asked."""
LIST_AGAIN_TICKS: Final = 10
"""Ticks after which a page is asked for again."""
LISTS_TENSORS_MAX: Final = 2 * TENSORS_MAX
"""Tensors of all lists that are kept; the oldest go."""

Say: TypeAlias = "tuple[bytes, Beside]"
"""To whom, and what."""
Sessions: TypeAlias = "Mapping[bytes, Session]"


class Attesters(Protocol):
    """What is asked of the spaces."""

    def trie(self, space: SpaceId) -> Trie:
        """Return the trie over the record ids of `space`."""
        ...

    def attesters(self, space: SpaceId) -> frozenset[bytes]:
        """Return the nodes of `space` whose attestations count."""
        ...


@dataclass(frozen=True, slots=True)
class Own:
    """What this node attests, and the tensors behind the model digest, by name."""

    signed: SignedBytes
    attestation: Attestation
    tensors: tuple[TensorEntry, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """The tensors of a model that a node attests, proved by its digest."""

    model: bytes
    tensors: tuple[TensorEntry, ...]


@dataclass(frozen=True, slots=True)
class Attested:
    """All that is known of one space: the latest of each node, and lists of who differs."""

    latest: Mapping[bytes, Heard] = field(default_factory=dict)
    lists: Mapping[bytes, Listed] = field(default_factory=dict)


@dataclass(slots=True)
class _Asking:
    """The list that is being asked for."""

    peer: bytes
    space: SpaceId
    listing: Listing
    number: int = 0
    ticks: int = 0


@dataclass(slots=True)
class Attesting:
    """The attestations of one node's spaces."""

    me: bytes
    spaces: Attesters
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    """What became of attestations that came, since the start."""
    _own: dict[SpaceId, Own] = field(default_factory=dict)
    _tables: dict[SpaceId, Table] = field(default_factory=dict)
    _members: dict[SpaceId, tuple[bytes, frozenset[bytes]]] = field(
        default_factory=dict
    )
    _lists: Mapping[tuple[SpaceId, bytes], Listed] = field(default_factory=dict)
    _wanted: set[tuple[SpaceId, bytes]] = field(default_factory=set)
    _asking: _Asking | None = None
    _turn: bytes = b""
    """The peer that was asked for a list last."""
    _number: int = 0
    _answered: dict[bytes, int] = field(default_factory=dict)
    _without: dict[tuple[SpaceId, bytes], bytes] = field(default_factory=dict)
    """The model of which a peer gave no list, or too long a one."""
    _spent: Counter[tuple[str, bytes]] = field(default_factory=Counter)
    _ticks: int = 0

    # --- what is known ------------------------------------------------------------------

    def known(self, space: SpaceId) -> Attested:
        """Return what is known of a space; any thread may ask."""
        table = self._tables.get(space)
        lists = {node: found for (s, node), found in self._lists.items() if s == space}
        return Attested(table.latest if table else {}, lists)

    @property
    def held(self) -> int:
        """How many attestations are held; any thread may ask."""
        return sum(len(table.latest) for table in tuple(self._tables.values()))

    def marked(self, beat: Heartbeat) -> Heartbeat:
        """Return a heartbeat that tells what we hold."""
        space = SpaceId(beat.space)
        if space not in self._tables:  # the usual case, and beats are many
            return beat
        mark = self._table(space).mark
        return replace(beat, attested=mark) if mark else beat

    # --- what this node wants -----------------------------------------------------------

    def mine(self, signed: SignedBytes, tensors: Iterable[TensorEntry]) -> None:
        """Attest this from now on; the next tick says so."""
        said = decode_attestation(signed.data)
        ordered = tuple(sorted(tensors, key=lambda entry: entry.name))
        self._own[said.space] = Own(signed, said, ordered)

    def want(self, space: SpaceId, node: bytes) -> None:
        """Ask `node` for its tensors as soon as it is connected, differing or not."""
        self._wanted.add((space, node))
        self._without.pop((space, node), None)

    def tick(self, sessions: Sessions) -> Iterator[Say]:
        """Yield what there is to say every second or so."""
        self._ticks += 1
        if self._ticks % WINDOW_TICKS == 0:
            self._spent.clear()
        for space in sorted(self._own):
            own = self._own[space]
            if self._table(space).take(own.signed, self._allowed(space)):
                yield from self._spread(space, [own.signed], sessions)
        yield from self._ask_for_lists(sessions)

    def closed(self, peer: bytes) -> None:
        """Forget what hung on the stream with `peer`."""
        self._answered.pop(peer, None)
        self._without = {k: v for k, v in self._without.items() if k[1] != peer}
        if self._asking is not None and self._asking.peer == peer:
            self._asking = None

    # --- what peers say -----------------------------------------------------------------

    def beat(self, peer: bytes, session: Session, beat: Heartbeat) -> list[Say]:
        """Ask for what we lack, if a heartbeat tells that there is any.

        SUBTLE: only where the records are the same. Else one side may leave out whom the
        other takes for a member, and both would ask for ever.
        """
        space = SpaceId(beat.space)
        if not self._heard(session, space) or not beat.attested:
            return []
        table = self._table(space)
        same = beat.root == self.spaces.trie(space).root
        if not same or beat.attested == table.mark or not self._spend("ask", peer):
            return []
        return [(peer, AttestationsRequest(space, table.held()))]

    def handle(
        self, peer: bytes, session: Session, message: Beside, sessions: Sessions
    ) -> list[Say]:
        """Return what follows from a message; one of a space not shared is ignored.

        Raises:
            RemoteError: it breaks a rule.
        """
        space = SpaceId(message.space)
        if not self._heard(session, space):
            return []
        match message:
            case AttestationsRequest(held=held):
                items = self._table(space).unknown_to(held)
                spare = items and self._spend("answer", peer)
                return [(peer, Attestations(space, items))] if spare else []
            case Attestations(items=items):
                others = {p: s for p, s in sessions.items() if p != peer}
                fresh = [item for item in items if self._take(space, item)]
                return list(self._spread(space, fresh, others))
            case TensorsRequest():
                return self._serve(peer, space, message)
            case TensorsReply():
                return self._take_page(peer, message)

    def _heard(self, session: Session, space: SpaceId) -> bool:
        """Tell whether a peer may speak of a space, and hears us on it."""
        speaks = session.features & SPEAKS_ATTESTATIONS
        return bool(session.greeted and speaks) and space in session.shared

    def _take(self, space: SpaceId, signed: SignedBytes) -> bool:
        """Take one attestation if it is news of a member; tell whether it was taken."""
        table, members = self._table(space), self._allowed(space)
        news = table.news(signed, members)
        if news is None:
            self.counts["no news"] += 1
            return False
        if self._spent["news", news.node] >= NEWS_MAX:
            self.counts["too soon"] += 1
            return False
        table.take(signed, members)
        # After the check: nobody spends what another node has.
        self._spend("news", news.node, NEWS_MAX)
        self.counts["taken"] += 1
        return True

    def _spread(
        self, space: SpaceId, items: Iterable[SignedBytes], sessions: Sessions
    ) -> Iterator[Say]:
        """Push news to a few peers of the space."""
        news = tuple(items)
        if news:
            hear = [p for p, s in sessions.items() if self._heard(s, space)]
            for peer in pick(hear, RUMOUR_FANOUT, self.rng):
                yield peer, Attestations(space, news)

    # --- lists --------------------------------------------------------------------------

    def _serve(self, peer: bytes, space: SpaceId, asked: TensorsRequest) -> list[Say]:
        """Answer with the tensors of what we attest, once under one number."""
        if asked.number <= self._answered.get(peer, 0):
            return []
        self._answered[peer] = asked.number
        own = self._own.get(space)
        if own is None or own.attestation.model != asked.model:
            reply = TensorsReply(space, asked.model, 0, (), asked.number)
        else:
            part, total = page(own.tensors, asked.first), len(own.tensors)
            reply = TensorsReply(space, asked.model, total, part, asked.number)
        return [(peer, reply)]

    def _ask_for_lists(self, sessions: Sessions) -> list[Say]:
        """Go on with the list that is asked for; begin the next if none is."""
        if self._asking is not None:
            self._asking.ticks += 1
            if self._asking.ticks >= LIST_TICKS_MAX:
                self._asking = None  # others first; it is asked again in its turn
            elif self._asking.ticks % LIST_AGAIN_TICKS == 0:
                return self._ask(self._asking)
            return []
        ordered = sorted(sessions, key=lambda peer: (peer <= self._turn, peer))
        for peer in ordered:
            session = sessions[peer]
            for space in sorted(session.shared):
                model = self._model_wanted(space, peer)
                heard = self._heard(session, space)
                if model and heard and self._spend("list", peer, LISTS_MAX):
                    self._turn = peer
                    self._asking = _Asking(peer, space, Listing(model))
                    return self._ask(self._asking)
        return []

    def _model_wanted(self, space: SpaceId, node: bytes) -> bytes | None:
        """Return the model of which we want the list of `node`, if there is one."""
        heard, own = self._table(space).latest.get(node), self._own.get(space)
        if heard is None:
            return None
        said = heard.attestation
        wanted = (space, node) in self._wanted
        differs = own is not None and own.attestation.contradicts(said)
        listed = self._lists.get((space, node))
        here = listed is not None and listed.model == said.model
        without = self._without.get((space, node)) == said.model
        return said.model if (wanted or differs) and not here and not without else None

    def _ask(self, asking: _Asking) -> list[Say]:
        self._number += 1
        asking.number = self._number
        got = asking.listing
        request = TensorsRequest(
            asking.space, got.model, len(got.got), number=self._number
        )
        return [(asking.peer, request)]

    def _take_page(self, peer: bytes, reply: TensorsReply) -> list[Say]:
        """Take the next page; a whole list is proved before it is kept."""
        if reply.number > self._number:
            raise MalformedMessageError("an answer to what was not asked")
        asking = self._asking
        if asking is None or (peer, reply.number) != (asking.peer, asking.number):
            return []  # it comes late, or twice
        listing = asking.listing
        if (reply.space, reply.model) != (asking.space, listing.model):
            raise MalformedMessageError("tensors of another model than was asked for")
        if reply.total == 0 or reply.total > TENSORS_MAX:
            self._give_up(asking)
            return []
        try:
            whole = listing.take(reply.total, reply.tensors)
        except MalformedMessageError:
            self._give_up(asking)
            raise
        if listing.too_long:
            self._give_up(asking)
        elif whole:
            self._keep(asking)
        else:
            asking.ticks = 0
            return self._ask(asking)
        return []

    def _give_up(self, asking: _Asking) -> None:
        self._without[asking.space, asking.peer] = asking.listing.model
        self._asking = None

    def _keep(self, asking: _Asking) -> None:
        self._asking = None
        key = asking.space, asking.peer
        self._wanted.discard(key)
        kept = {k: v for k, v in self._lists.items() if k != key}
        kept[key] = Listed(asking.listing.model, tuple(asking.listing.got))
        while sum(len(v.tensors) for v in kept.values()) > LISTS_TENSORS_MAX:
            del kept[next(iter(kept))]
        self._lists = kept

    # --- members ------------------------------------------------------------------------

    def _table(self, space: SpaceId) -> Table:
        """Return the table of a space, in which members alone stand."""
        table = self._tables.get(space)
        if table is None:
            table = self._tables[space] = Table(space)
        self._allowed(space)
        return table

    def _allowed(self, space: SpaceId) -> frozenset[bytes]:
        """Return who may attest; who may no more is forgotten."""
        root = self.spaces.trie(space).root
        known = self._members.get(space)
        if known is None or known[0] != root:
            known = self._members[space] = root, self.spaces.attesters(space)
            if space in self._tables:
                self._tables[space].keep_only(known[1])
        return known[1]

    def _spend(self, what: str, whose: bytes, most: int = ANSWERS_MAX) -> bool:
        """Take one of what a node or peer has in this window, if any is left."""
        if self._spent[what, whose] >= most:
            return False
        self._spent[what, whose] += 1
        return True
