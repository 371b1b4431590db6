"""A naive evaluator of a space, and a naive trie root: what the real ones must equal.

Owns a second reading of the rules (DESIGN section 4), written from plain decoded values: it
shares no code with `policy`, `orset`, `record` or `trie`, and recomputes everything where
they keep state. Slow on purpose.
"""

from dataclasses import dataclass
from typing import Any

import msgpack
from blake3 import blake3


def trie_root(items: list[bytes], depth: int = 0) -> bytes:
    """Return the root of a set of digests by the shape rule alone, recursively."""
    head = bytes([depth]) + len(items).to_bytes(8, "little")
    if len(items) <= 16:
        leaf = "crdtmerge v1 trie leaf"
        return blake3(head + b"".join(sorted(items)), derive_key_context=leaf).digest()
    kids = [[i for i in items if i.hex()[depth] == d] for d in "0123456789abcdef"]
    hashes = b"".join(trie_root(kid, depth + 1) for kid in kids)
    return blake3(head + hashes, derive_key_context="crdtmerge v1 trie node").digest()


@dataclass(frozen=True)
class Fact:
    """A record as plain values."""

    id: bytes
    author: bytes
    seq: int
    prev: bytes
    auth: bytes
    kind: str
    body: Any


def facts_of(datas: list[bytes]) -> dict[bytes, Fact]:
    """Return records' bytes as facts by id."""
    found = {}
    for data in datas:
        fields = msgpack.unpackb(data, raw=False)
        author, seq, prev, auth, kind, _, body = fields[2:]
        name = blake3(data, derive_key_context="crdtmerge v1 record id").digest()
        found[name] = Fact(name, author, seq, prev, auth, kind, body)
    return found


class Oracle:
    """What a set of facts means, asked question by question."""

    def __init__(self, facts: dict[bytes, Fact]) -> None:
        """Take the facts; nothing is computed yet."""
        self.facts = facts
        self.genesis = next(f for f in facts.values() if f.kind == "genesis")
        self.ranks, self.allowed = self._judged(0)
        self.effective = self._effective(self.ranks, self.allowed)

    def _judged(
        self, level: int
    ) -> tuple[dict[bytes, int], dict[bytes, set[bytes] | None]]:
        """Return the authors of rank `level` or above, and what is accepted of each."""
        if level == 3:
            owners = self.genesis.body[3]
            whole = {owner: self._unforked(owner, None, []) for owner in owners}
            return dict.fromkeys(owners, 3), whole
        ranks, allowed = self._judged(level + 1)
        effective = self._effective(ranks, allowed)
        holders = {
            f.body[0] for f in effective if f.kind == "grant" and f.body[1] == level
        }
        if level == 1 and self.genesis.body[1] == "open":
            holders |= {
                f.author for f in self.facts.values() if f.auth == self.genesis.id
            }
        news = holders - ranks.keys()
        verdicts = self._standing(effective, ranks)
        return (
            ranks | dict.fromkeys(news, level),
            allowed
            | {
                author: self._unforked(author, self._left(author, verdicts), effective)
                for author in news
            },
        )

    def _left(self, author: bytes, verdicts: list[Fact]) -> set[bytes] | None:
        """Return what the verdicts leave of an author's records; None if there is none."""
        against = [f for f in verdicts if f.kind == "revoke" and f.body[0] == author]
        if any(f.kind == "ban" and f.body == ["author", author] for f in verdicts):
            return set()
        if not against:
            return None
        return set.intersection(*(self._past(author, f.body[1]) for f in against))

    def _unforked(
        self, author: bytes, left: set[bytes] | None, above: list[Fact]
    ) -> set[bytes] | None:
        """Return what is left of an author before it forked; `above` may have lifted it."""
        cut = self._cut(author, above)
        if cut is None:
            return left
        mine = [f for f in self.facts.values() if f.author == author]
        before = {f.id for f in mine if f.seq < cut or f.kind == "genesis"}
        return before if left is None else before & left

    def _cut(self, author: bytes, above: list[Fact]) -> int | None:
        """Return the lowest number that the author used twice and nobody above lifted."""
        if self.genesis.body[5:] not in ([[n, 1]] for n in range(65)):
            return None
        shown = [f for f in self.facts.values() if f.kind == "fork"]
        numbers = {f.body[1] for f in shown if f.body[0] == author}
        lifted = {f.body[0] for f in above if f.kind == "lift"}
        lifted_numbers = {
            f.body[1] for f in shown if f.body[0] == author and f.id in lifted
        }
        return min(numbers - lifted_numbers, default=None)

    def quarantined(self) -> dict[bytes, int]:
        """Return from which number on nothing of an author has effect."""
        found = {
            author: self._cut(
                author,
                [
                    f
                    for f in self.effective
                    if self.ranks[f.author] > self.ranks[author]
                ],
            )
            for author in self.ranks
        }
        return {author: cut for author, cut in found.items() if cut is not None}

    def forked(self) -> set[tuple[bytes, int]]:
        """Return who is shown, by whomever, to have used which number twice."""
        shown = [f for f in self.facts.values() if f.kind == "fork"]
        return {(f.body[0], f.body[1]) for f in shown}

    def _past(self, author: bytes, heads: list[bytes]) -> set[bytes]:
        """Return the `prev` closure of `heads` among the author's records."""
        past: set[bytes] = set()
        for head in heads:
            at = self.facts.get(head)
            while at is not None and at.author == author:
                past.add(at.id)
                at = self.facts.get(at.prev)
        return past

    def _standing(self, effective: list[Fact], ranks: dict[bytes, int]) -> list[Fact]:
        """Return the bans and revocations that nobody of the same rank or above lifted."""
        lifts = [f for f in effective if f.kind == "lift"]
        return [
            f
            for f in effective
            if f.kind in {"ban", "revoke"}
            and not any(
                lift.body[0] == f.id and ranks[lift.author] >= ranks[f.author]
                for lift in lifts
            )
        ]

    def _effective(
        self, ranks: dict[bytes, int], allowed: dict[bytes, set[bytes] | None]
    ) -> list[Fact]:
        """Return the accepted records of these authors whose grants have effect."""

        def has_effect(fact: Fact) -> bool:
            accepted = allowed.get(fact.author)
            kept = accepted is None or fact.id in accepted
            rooted = fact.kind == "genesis" or has_effect(self.facts[fact.auth])
            return fact.author in ranks and kept and rooted

        return [f for f in self.facts.values() if has_effect(f)]

    def visible(self) -> dict[bytes, tuple[int, bytes]]:
        """Return weight and evidence of each visible content id."""
        standing = self._standing_against()
        banned = {f.body[1] for f in standing if f.body[0] == "content"}
        banned |= self.faulty()
        shown: dict[bytes, tuple[int, bytes]] = {}
        live = [f for f in self.effective if f.kind == "add" and not self._removed(f)]
        for content in {f.body[0] for f in live} - banned:
            adds = sorted((f for f in live if f.body[0] == content), key=lambda f: f.id)
            weight = max(min(_units(f.body[4]), self._cap(f)) for f in adds)
            carried = [f.body[5] for f in adds if f.body[5]]
            shown[content] = weight, carried[0] if carried else b""
        return shown

    def faulty(self) -> set[bytes]:
        """Return the contents that any fact, by whomever, shows to be faulty."""
        return {f.body[0] for f in self.facts.values() if f.kind == "fault"}

    def _standing_against(self) -> list[Fact]:
        standing = self._standing(self.effective, self.ranks)
        return [f for f in standing if f.kind == "ban"]

    def _removed(self, add: Fact) -> bool:
        return any(
            f.kind == "remove"
            and add.id in f.body[0]
            and (
                f.author == add.author or self.ranks[f.author] > self.ranks[add.author]
            )
            for f in self.effective
        )

    def _cap(self, add: Fact) -> int:
        """Return the weight cap of the grant that the add names."""
        grant = self.facts[add.auth]
        if grant.kind == "grant":
            return _units(grant.body[2])
        return 1000 * 10**9 if add.author in self.genesis.body[3] else 10**9

    def heads(self) -> list[bytes]:
        """Return the recipe records that no other one replaces."""
        recipes = [f for f in self.effective if f.kind == "recipe"]
        old = {replaced for f in recipes for replaced in f.body[1]}
        return sorted(f.id for f in recipes if f.id not in old)

    def visible_root(self) -> bytes:
        """Return the trie root over (content, weight, evidence) of the visible set."""
        leaves = [
            blake3(
                msgpack.packb([content, _text(weight), evidence]),
                derive_key_context="crdtmerge v1 visible contribution",
            ).digest()
            for content, (weight, evidence) in self.visible().items()
        ]
        return trie_root(leaves)


def _units(text: str) -> int:
    whole, _, places = text.partition(".")
    return int(whole + places.ljust(9, "0"))


def _text(units: int) -> str:
    text = str(units).rjust(10, "0")
    return f"{text[:-9]}.{text[-9:]}".rstrip("0").rstrip(".")
