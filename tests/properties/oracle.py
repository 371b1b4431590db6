"""A naive evaluator of a space, and a naive trie root: what the real ones must equal.

Owns a second reading of the rules (DESIGN section 4), written from plain decoded values: it
shares no code with `policy`, `orset`, `record` or `trie`, and recomputes everything where
they keep state. Slow on purpose.
"""

from collections.abc import Sequence

import msgpack
from blake3 import blake3

from tests.properties.oracle_epochs import waiting_epochs, without_dead
from tests.properties.oracle_standing import Court, Fact


def trie_root(items: Sequence[bytes], depth: int = 0) -> bytes:
    """Return the root of a set of digests by the shape rule alone, recursively."""
    head = bytes([depth]) + len(items).to_bytes(8, "little")
    if len(items) <= 16:
        leaf = "crdtmerge v1 trie leaf"
        return blake3(head + b"".join(sorted(items)), derive_key_context=leaf).digest()
    kids = [[i for i in items if i.hex()[depth] == d] for d in "0123456789abcdef"]
    hashes = b"".join(trie_root(kid, depth + 1) for kid in kids)
    return blake3(head + hashes, derive_key_context="crdtmerge v1 trie node").digest()


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
        """Take the facts, and find who stands how."""
        self.facts, shadows = without_dead(facts)
        self.court = Court(self.facts, shadows)
        self.genesis = self.court.genesis
        self.ranks = self.court.bottom.ranks
        self.effective = self.court.effective

    def quarantined(self) -> dict[bytes, int]:
        """Return from which number on nothing of an author has effect."""
        return self.court.bottom.cuts

    def forked(self) -> set[tuple[bytes, int]]:
        """Return who is shown, by whomever, to have used which number twice."""
        shown = [f for f in self.facts.values() if f.kind == "fork"]
        return {(f.body[0], f.body[1]) for f in shown}

    def visible(self) -> dict[bytes, tuple[int, bytes]]:
        """Return weight and evidence of each visible content id."""
        bans = [f for f in self.judgements() if f.kind == "ban"]
        banned = {f.body[1] for f in bans if f.body[0] == "content"}
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

    def pending(self) -> dict[bytes, tuple[set[bytes], int]]:
        """Return what waits for owners: who signed, and how many must."""
        acts = self.court.pending()
        top = self.court.rung(3)
        for epoch, signed in waiting_epochs(self.facts).items():
            if self.court.as_owner(self.facts[epoch], top):
                acts[epoch] = signed, self.court.threshold
        return acts

    def judgements(self) -> list[Fact]:
        """Return the bans and revocations that stand."""
        return self.court.standing_in(self.court.bottom)

    def _removed(self, add: Fact) -> bool:
        return any(
            f.kind == "remove"
            and add.id in f.body[0]
            and (
                self._same(f.author, add.author)
                or self.court.acted(f, self.court.bottom) > self.ranks[add.author]
            )
            for f in self.effective
        )

    def _same(self, remover: bytes, adder: bytes) -> bool:
        """Tell whether a remover is the adder, or a later key of the same identity."""
        chain = self.court.bottom.chains[remover]
        return adder in chain[: chain.index(remover) + 1]

    def _cap(self, add: Fact) -> int:
        """Return the weight cap of the grant that the add names."""
        grant = self.facts[add.auth]
        if grant.kind == "successor":
            return self._cap(grant)
        if grant.kind == "grant":
            return _units(grant.body[2])
        return 1000 * 10**9 if add.author in self.genesis.body[3] else 10**9

    def heads(self) -> list[bytes]:
        """Return the recipe records that no other one replaces."""
        recipes = [f for f in self.effective if f.kind == "recipe"]
        old = {replaced for f in recipes for replaced in f.body[1]}
        return sorted(f.id for f in recipes if f.id not in old)

    def evaluations(self) -> set[bytes]:
        """Return those that no later one of the same identity and thing replaces."""
        chains = self.court.bottom.chains
        said = [f for f in self.effective if f.kind == "evaluation"]
        age = {f.id: (chains[f.author].index(f.author), f.seq, f.id) for f in said}
        return {
            f.id
            for f in said
            if not any(
                chains[f.author][0] == chains[g.author][0]
                and f.body[:4] == g.body[:4]
                and age[f.id] < age[g.id]
                for g in said
            )
        }

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
