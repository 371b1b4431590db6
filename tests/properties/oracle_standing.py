"""The naive evaluator's second room: who stands how, and which facts have effect.

Owns a second reading of ranks, judgements, approvals, councils and successions
(docs/adr/0036), by plain recursion from one rank to the rank above it. Shares no code with
`policy`. Slow on purpose.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

COUNCIL = 4


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


@dataclass(frozen=True)
class Rung:
    """What is known of a rank and of all above it."""

    ranks: dict[bytes, int]
    allowed: dict[bytes, set[bytes]]
    chains: dict[bytes, tuple[bytes, ...]]
    lines: dict[bytes, tuple[bytes, ...]]
    namings: frozenset[bytes]
    cuts: dict[bytes, int]
    judged: frozenset[bytes]
    ended: frozenset[bytes]
    contested: frozenset[bytes]


BOTTOM = Rung({}, {}, {}, {}, frozenset(), {}, frozenset(), frozenset(), frozenset())


class Court:
    """Who stands how by a set of facts."""

    def __init__(
        self, facts: dict[bytes, Fact], shadows: dict[bytes, Fact] | None = None
    ) -> None:
        """Take the facts, and what dead ones were like; let the owners meet."""
        self.facts = facts
        self.shadows = shadows or {}
        self.by_kind: dict[str, list[Fact]] = {}
        self.by_author: dict[bytes, list[Fact]] = {}
        for fact in facts.values():
            self.by_kind.setdefault(fact.kind, []).append(fact)
            self.by_author.setdefault(fact.author, []).append(fact)
        self.genesis = self.by_kind["genesis"][0]
        self.owners: list[bytes] = self.genesis.body[3]
        self.threshold, self.quarantine = (self.genesis.body[5:] or [[1, 0]])[0]
        self.size = max(self.threshold, 1 + len(self.owners) // 2, 2)
        self.claims: dict[bytes, Fact] = {}
        self.decided: frozenset[bytes] = frozenset()
        self.meeting = self._meet()
        self.decided = frozenset(self._decide())
        self.bottom = self.rung(0)
        self.effective = self.effective_in(self.bottom)

    # --- owners together ---------------------------------------------------------------

    def _meet(self) -> Rung:
        """Return the owners once all is said about who follows whose lost key."""
        rung = self._place(3, BOTTOM, set(self.owners))
        for _ in range(64):
            votes: dict[bytes, dict[bytes, list[Fact]]] = {}
            for fact in sorted(self._of("successor"), key=lambda f: f.id):
                of, key, _ = fact.body
                open_still = of in rung.chains and of not in self.claims
                if of == fact.author or not open_still or key in rung.chains:
                    continue
                if self._together(fact, rung):
                    votes.setdefault(of, {}).setdefault(key, []).append(fact)
            news = {}
            for of, by_key in votes.items():
                most = max(self._count(f, rung) for fs in by_key.values() for f in fs)
                best = [
                    f
                    for fs in by_key.values()
                    for f in fs
                    if self._count(f, rung) == most
                ]
                if len({f.body[1] for f in best}) == 1:
                    news[of] = min(best, key=lambda f: f.id)
            if not news:
                break
            self.claims |= news
            rung = self._place(3, BOTTOM, set(self.owners))
        return rung

    def _decide(self) -> Iterator[bytes]:
        """Yield the judgements of owners by councils that stand, and councils' lifts."""
        rung = self.meeting
        lifts = [f for f in self._of("lift") if self._together(f, rung)]
        yield from (f.id for f in lifts)
        lifted = {f.body[0] for f in lifts}
        for fact in [*self._of("ban"), *self._of("revoke")]:
            key = self._target(fact)
            if key not in rung.chains or fact.id in lifted:
                continue
            own = rung.chains.get(fact.author) == rung.chains[key]
            if not (own and fact.kind == "revoke") and self._together(fact, rung):
                yield fact.id

    def _together(self, fact: Fact, rung: Rung) -> bool:
        return self.as_owner(fact, rung) and self._count(fact, rung) >= self.size

    def _count(self, fact: Fact, rung: Rung) -> int:
        return len(self.signers(fact, rung))

    def signers(self, fact: Fact, rung: Rung) -> set[bytes]:
        """Return the first keys of the owners that made or approved `fact`."""
        approvals = [f for f in self._of("approve") if f.body == [fact.id]]
        signed = [f for f in [fact, *approvals] if self.as_owner(f, rung)]
        return {rung.chains[f.author][0] for f in signed}

    def as_owner(self, fact: Fact, rung: Rung) -> bool:
        """Tell whether an owner may say `fact`, and says it as one."""
        allowed = rung.ranks.get(fact.author) == 3
        allowed = allowed and fact.id in rung.allowed[fact.author]
        return allowed and (fact.auth == self.genesis.id or fact.auth in rung.namings)

    def acted(self, fact: Fact, rung: Rung) -> int:
        """Return with which rank a fact is acted."""
        if fact.id in self.decided:
            return COUNCIL
        rank = rung.ranks[fact.author]
        if rank == 3 and self.threshold > 1:
            return 3 if self._count(fact, rung) >= self.threshold else 2
        return rank

    # --- ranks -------------------------------------------------------------------------

    def rung(self, level: int) -> Rung:
        """Return all who are of rank `level` or above."""
        if level == 3:
            return self._place(3, BOTTOM, set(self.owners))
        above = self.rung(level + 1)
        holders = {
            f.body[0]
            for f in self.effective_in(above)
            if f.kind == "grant" and f.body[1] == level
        }
        if level == 1 and self.genesis.body[1] == "open":
            holders |= {
                f.author for f in self.facts.values() if f.auth == self.genesis.id
            }
        return self._place(level, above, holders - above.ranks.keys())

    def _place(self, level: int, above: Rung, holders: set[bytes]) -> Rung:
        """Return `above` with the chains of the keys that hold `level`."""
        effective = self.effective_in(above)
        known = {f.id for f in effective}
        verdicts = [f for f in self.standing_in(above) if self.acted(f, above) > level]
        cuts = self._cuts(
            [f for f in effective if f.kind == "lift" and self.acted(f, above) > level]
        )
        links, namings, contested = self._links(
            level, above, holders, known, verdicts, cuts
        )
        longest = 64 if level < 3 else len(self.facts)
        chains = self._chains(holders, links, above, longest)
        allowed: dict[bytes, set[bytes]] = dict(above.allowed)
        judged, ended = set(above.judged), set(above.ended)
        lines = dict(above.lines)
        for chain in set(chains.values()):
            higher = [k for k in links if k in above.ranks and links[k] == chain[0]]
            line = tuple(key for k in higher for key in above.lines[k]) + chain
            lines |= dict.fromkeys(chain, line)
            against = [f for f in verdicts if self._target(f) in line]
            judged |= set(chain) if against else set()
            for key in reversed(chain):
                later = chain[chain.index(key) + 1 :]
                ends = [
                    f
                    for f in self._of("revoke")
                    if f.body[0] == key
                    and f.author in later
                    and f.id in allowed[f.author]
                    and f.auth in namings | known
                ]
                judged |= {key} if ends else set()
                ended |= {f.id for f in ends}
                own = {f.id for f in self._of("successor") if f.author == key}
                allowed[key] = self._left(
                    key, [*against, *ends], cuts.get(key), own & namings
                )
                gone = [f for f in self._goodbyes(key) if f.id in allowed[key]]
                judged |= {key} if gone else set()
                ended |= {f.id for f in gone}
                for fact in gone:
                    allowed[key] &= self._line(fact) | (own & namings)
        return Rung(
            above.ranks | dict.fromkeys(chains, level),
            allowed,
            above.chains | chains,
            lines,
            above.namings | namings,
            above.cuts | {k: n for k, n in cuts.items() if k in chains},
            frozenset(judged),
            frozenset(ended),
            above.contested | contested,
        )

    def _goodbyes(self, key: bytes) -> list[Fact]:
        """Return what `key` says to end itself."""
        return [f for f in self._of("revoke") if f.author == key == f.body[0]]

    def _left(
        self, key: bytes, against: list[Fact], cut: int | None, always: set[bytes]
    ) -> set[bytes]:
        """Return which facts by `key` are left."""
        left = {f.id for f in self.by_author.get(key, [])}
        if any(f.kind == "ban" for f in against):
            return set()
        for verdict in against:
            left &= self._past(key, verdict.body[1]) | always
        if cut is None:
            return left
        early = {i for i in left if self.facts[i].seq < cut}
        return early | ({self.genesis.id} & left)

    def _past(self, key: bytes, heads: list[bytes]) -> set[bytes]:
        """Return what precedes `heads` of `key`, and the namings that they hang on."""
        past: set[bytes] = set()
        for head in heads:
            past |= self._back(head, key)
            at = self._known(head)
            while at is not None and (at := self.facts.get(at.auth)) is not None:
                if at.kind != "successor":
                    break
                past |= {at.id} if at.author == key else set()
        return past

    # --- chains ------------------------------------------------------------------------

    def _links(
        self,
        level: int,
        above: Rung,
        holders: set[bytes],
        effective: set[bytes],
        verdicts: list[Fact],
        cuts: dict[bytes, int],
    ) -> tuple[dict[bytes, bytes], frozenset[bytes], frozenset[bytes]]:
        """Return who follows whom at `level`, by which facts, and who is contested."""
        barred: set[bytes] = set()
        while True:
            links: dict[bytes, bytes] = {}
            namings: set[bytes] = set()
            contested: set[bytes] = set()
            while True:
                before = len(namings)
                known = holders | above.ranks.keys() | set(links.values())
                for key in known:
                    said = self._said(key, above, verdicts, cuts)
                    if len({f.body[1] for f in said}) > 1:
                        contested |= {key} - above.ranks.keys()
                        said = []
                    there = effective | namings
                    good = [f for f in said if self._hands_on(f, level, there)]
                    good = [f for f in good if f.body[1] not in barred]
                    namings |= {f.id for f in good}
                    followers = {f.body[1] for f in good} - above.ranks.keys()
                    links |= dict.fromkeys({key}, *followers) if followers else {}
                if len(namings) == before:
                    break
            followed = list(links.values())
            bad = {key for key in followed if followed.count(key) > 1}
            bad |= {key for key in followed if self._returns(key, links)}
            if not bad:
                return links, frozenset(namings), frozenset(contested)
            barred |= bad

    def _said(
        self, key: bytes, above: Rung, verdicts: list[Fact], cuts: dict[bytes, int]
    ) -> list[Fact]:
        """Return the first words of `key` about who follows it."""
        if key in self.claims:
            return [self.claims[key]]
        if key in above.ranks:
            may = above.allowed[key]
        else:
            revokes = [f for f in verdicts if f.kind == "revoke" and f.body[0] == key]
            may = self._left(key, revokes, cuts.get(key), set())
            for fact in [f for f in self._goodbyes(key) if f.id in may]:
                may = may & self._line(fact)
        said = [
            f
            for f in self._of("successor")
            if f.author == key == f.body[0] and f.id in may
        ]
        ids = {f.id for f in said}
        return [f for f in said if not (self._line(f) - {f.id}) & ids]

    def _line(self, fact: Fact) -> set[bytes]:
        """Return a fact and all of its author that it follows."""
        return {fact.id} | self._back(fact.prev, fact.author)

    def _back(self, name: bytes, author: bytes) -> set[bytes]:
        """Return the ids from `name` back, as long as they are of `author`."""
        found: set[bytes] = set()
        at = self._known(name)
        while at is not None and at.author == author and at.id not in found:
            found.add(at.id)
            at = self._known(at.prev)
        return found

    def _known(self, name: bytes) -> Fact | None:
        return self.facts.get(name) or self.shadows.get(name)

    def _hands_on(self, fact: Fact, level: int, known: set[bytes]) -> bool:
        if fact in self.claims.values():
            return level == 3
        return fact.auth in known and self.rank_by(fact) == level

    def rank_by(self, fact: Fact) -> int:
        """Return the rank that what a fact names as its grant gives its author."""
        grant = self.facts[fact.auth]
        if grant.kind == "genesis":
            return 3 if fact.author in self.owners else 1
        if grant.kind == "successor":
            return self.rank_by(grant)
        return int(grant.body[1])

    def _returns(self, key: bytes, links: dict[bytes, bytes]) -> bool:
        at = links.get(key)
        for _ in links:
            if at is None or at == key:
                break
            at = links.get(at)
        return at == key

    def _chains(
        self,
        holders: set[bytes],
        links: dict[bytes, bytes],
        above: Rung,
        longest: int,
    ) -> dict[bytes, tuple[bytes, ...]]:
        """Return by each key of this rank the keys of its identity."""
        inner = {a: b for a, b in links.items() if a not in above.ranks}
        keys = holders | set(links.values())
        chains: dict[bytes, tuple[bytes, ...]] = {}
        for first in keys - set(inner.values()):
            chain = [first]
            while chain[-1] in inner:
                chain.append(inner[chain[-1]])
            for at in range(0, len(chain), longest):
                part = tuple(chain[at : at + longest])
                chains |= dict.fromkeys(part, part)
        return chains

    # --- effect ------------------------------------------------------------------------

    def effective_in(self, rung: Rung) -> list[Fact]:
        """Return the facts that have effect, as far as `rung` tells."""
        known: dict[bytes, bool] = {}

        def has_effect(fact: Fact) -> bool:
            if fact.id not in known:
                known[fact.id] = self._has_effect(fact, rung) and (
                    fact.id in self.decided
                    or fact.kind == "genesis"
                    or fact in self.claims.values()
                    or has_effect(self.facts[fact.auth])
                )
            return known[fact.id]

        return [f for f in self.facts.values() if has_effect(f)]

    def _has_effect(self, fact: Fact, rung: Rung) -> bool:
        """Tell whether a fact has effect, if what it hangs on has."""
        if fact.kind == "genesis" or fact.id in self.decided:
            return True
        if fact.kind == "successor" and fact.id not in rung.namings:
            return False
        if fact in self.claims.values():
            return True
        if fact.author not in rung.ranks or fact.id not in rung.allowed[fact.author]:
            return False
        return fact.kind != "grant" or fact.body[1] < self.acted(fact, rung)

    def standing_in(self, rung: Rung) -> list[Fact]:
        """Return the bans and revocations that nobody of the same rank or above lifted."""
        effective = self.effective_in(rung)
        lifts: dict[bytes, int] = {}
        for fact in effective:
            if fact.kind == "lift":
                acted = self.acted(fact, rung)
                lifts[fact.body[0]] = max(acted, lifts.get(fact.body[0], -1))
        return [
            f
            for f in effective
            if f.kind in {"ban", "revoke"}
            and f.id not in rung.ended
            and self.acted(f, rung) > lifts.get(f.id, -1)
        ]

    def pending(self) -> dict[bytes, tuple[set[bytes], int]]:
        """Return the acts of owners that too few signed: who did, and how many must."""
        top = self.rung(3)
        found: dict[bytes, tuple[set[bytes], int]] = {}
        for fact in self.facts.values():
            if not self.as_owner(fact, top):
                continue
            needed = self._needs(fact, top)
            if needed == COUNCIL and not self._together(fact, self.meeting):
                found[fact.id] = self.signers(fact, self.meeting), self.size
            if needed == 3 and self.acted(fact, self.bottom) < 3:
                found[fact.id] = self.signers(fact, top), self.threshold
        return found

    def _needs(self, fact: Fact, top: Rung) -> int:
        """Return with which rank a fact must be acted to have all of its effect."""
        ranks = self.bottom.ranks
        effective = {f.id: f for f in self.effective}
        if fact.kind == "grant":
            return int(fact.body[1]) + 1
        if fact.kind == "successor":
            other = fact.body[0] != fact.author and ranks.get(fact.body[0]) == 3
            return COUNCIL if other else 0
        if fact.kind in {"ban", "revoke"} and self._target(fact):
            target = self._target(fact) or b""
            own = top.chains.get(fact.author) == top.chains.get(target)
            return 0 if own and fact.kind == "revoke" else ranks.get(target, 0) + 1
        if fact.kind == "lift":
            return self._lift_needs(fact.body[0], effective)
        if fact.kind == "remove":
            adds = [effective[i] for i in fact.body[0] if i in effective]
            held = {ranks[add.author] for add in adds if add.kind == "add"}
            return 3 if 2 in held else 0
        return 0

    def _lift_needs(self, target: bytes, effective: dict[bytes, Fact]) -> int:
        """Return with which rank a lift must be acted: as its target, or above a forker."""
        act = self.facts.get(target)
        if act is not None and act.kind == "fork":
            author = act.body[0]
            return self.bottom.ranks[author] + 1 if author in self.bottom.cuts else 0
        judges = act is not None and act.kind in {"ban", "revoke"}
        if act is None or not judges or target in self.bottom.ended:
            return 0
        return self.acted(act, self.bottom) if target in effective else 0

    def _cuts(self, lifts: list[Fact]) -> dict[bytes, int]:
        """Return the lowest number that each author used twice and nobody above lifted."""
        shown = self._of("fork") if self.quarantine else []
        lifted = {f.body[0] for f in lifts}
        forgiven = {(f.body[0], f.body[1]) for f in shown if f.id in lifted}
        cuts: dict[bytes, int] = {}
        for author, number in {(f.body[0], f.body[1]) for f in shown} - forgiven:
            cuts[author] = min(number, cuts.get(author, number))
        return cuts

    def _target(self, fact: Fact) -> bytes | None:
        """Return the author whom a judgement is of."""
        if fact.kind == "revoke":
            author: bytes = fact.body[0]
            return author
        return fact.body[1] if fact.body[0] == "author" else None

    def _of(self, kind: str) -> list[Fact]:
        return self.by_kind.get(kind, [])
