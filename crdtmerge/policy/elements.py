"""What the effective records show: the second half of the third step.

Owns the visible set (adds minus removes, bans and faults), the recipe and the nodes. Does
not own which records take effect (`standing`). Visibility does not depend on the bytes of
contributions, else replicas would differ.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from crdtmerge.bodies import (
    Add,
    Ban,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    Revoke,
    Unknown,
)
from crdtmerge.digest import ContentId
from crdtmerge.faults import Fault
from crdtmerge.identity import AuthorId
from crdtmerge.policy.admissible import authority_of
from crdtmerge.policy.dead import Listing
from crdtmerge.policy.pending import pending_of
from crdtmerge.policy.scoring import evaluations_of
from crdtmerge.policy.standing import Standing, stand
from crdtmerge.policy.view import Found, Shown, Source, View, Visible
from crdtmerge.record import Record
from crdtmerge.trie import Trie

NODES_PER_AUTHOR_MAX: Final = 16
"""Transport keys of one author that count: handshakes and dials cost something each."""


def evaluate(
    records: Mapping[RecordId, Record], listing: Listing | None = None
) -> View:
    """Return what the admissible `records` of one space mean: the third step.

    With a `listing` none of them is dead by it; without, what they list is found out.
    From nothing, by all of them: `meaning` finds the same by what changed.
    """
    standing = stand(records, listing)
    effective = standing.effective
    shown = _shown(standing)
    pending = pending_of(standing, effective.get)
    return view_of(
        standing,
        effective=frozenset(effective),
        heads=recipe_heads(effective.values()),
        nodes=nodes_of(standing, effective.values()),
        source=Found(
            shown, pending, evaluations_of(standing.chains, effective.values())
        ),
    )


@dataclass(frozen=True, slots=True)
class Nodes:
    """Where the nodes of a space listen, and whose they are, by transport key."""

    addresses: Mapping[bytes, tuple[str, ...]]
    authors: Mapping[bytes, tuple[AuthorId, ...]]


def view_of(
    standing: Standing,
    *,
    effective: AbstractSet[RecordId],
    heads: Sequence[Record],
    nodes: Nodes,
    source: Source,
) -> View:
    """Return what is to be seen, put together."""
    judgements = standing.judgements
    recipe = heads[0].body if heads else None
    return View(
        genesis=standing.book.genesis,
        ranks=standing.ranks,
        rightless=standing.judged,
        effective=effective,
        recipe=recipe.recipe if isinstance(recipe, RecipeChange) else None,
        recipe_heads=tuple(record.id for record in heads),
        nodes=nodes.addresses,
        node_authors=nodes.authors,
        bans={r.id: r.body for r in judgements if isinstance(r.body, Ban)},
        revocations={r.id: r.body for r in judgements if isinstance(r.body, Revoke)},
        forks=standing.forks,
        quarantined=standing.quarantined,
        chains=standing.chains,
        lines=standing.lines,
        contested=standing.contested,
        endings={
            key: r.body
            for key in sorted(standing.endings)
            if isinstance((r := standing.book.records[key]).body, Revoke)
        },
        acts=standing.acts,
        source=source,
    )


def _shown(standing: Standing) -> Shown:
    faults = faults_of(standing.book.records)
    visible = _visible(standing, faults)
    unknown = {
        r.kind
        for r in standing.effective.values()
        if isinstance(r.body, Unknown) and r.critical
    }
    return Shown(
        elements={v.content: v for v in visible},
        trie=Trie.build(v.leaf for v in visible),
        faults=faults,
        unknown_critical=tuple(sorted(unknown)),
    )


def faults_of(records: Mapping[RecordId, Record]) -> dict[ContentId, RecordId]:
    """Return which contents are shown to be unusable, by the lowest record id.

    SUBTLE: every admitted fault counts, whatever became of its author's rights: it is
    a proof, and who shows it does not make it less true.
    """
    bodies = ((r.id, r.body) for r in records.values())
    faults = sorted((b.content, key) for key, b in bodies if isinstance(b, Fault))
    return dict(reversed(faults))


def _visible(standing: Standing, faults: Container[ContentId]) -> tuple[Visible, ...]:
    banned = banned_by(standing)
    live: dict[ContentId, list[Record]] = {}
    caps: dict[tuple[bytes, AuthorId], int] = {}
    removed = _removed(standing)
    for record in sorted(standing.effective.values(), key=lambda r: r.id):
        if isinstance(record.body, Add) and record.id not in removed:
            live.setdefault(record.body.content, []).append(record)
    return tuple(
        element(content, adds, [cap_of(standing, add, caps) for add in adds])
        for content, adds in sorted(live.items())
        if content not in banned and content not in faults
    )


def banned_by(standing: Standing) -> frozenset[bytes]:
    """Return the contents that are banned."""
    return frozenset(
        r.body.target
        for r in standing.judgements
        if isinstance(r.body, Ban) and r.body.subject == "content"
    )


def _removed(standing: Standing) -> set[RecordId]:
    removed: set[RecordId] = set()
    for record in standing.effective.values():
        if not isinstance(record.body, Remove):
            continue
        for target in record.body.adds:
            add = standing.effective.get(target)
            if add is not None and may_remove(standing, record, add):
                removed.add(target)
    return removed


def may_remove(standing: Standing, remove: Record, add: Record) -> bool:
    """Tell whether an effective remove takes out an effective add that it names."""
    own = remove.author == add.author or standing.follows(remove.author, add.author)
    return own or standing.acting(remove) > standing.ranks[add.author]


def cap_of(
    standing: Standing, add: Record, known: dict[tuple[bytes, AuthorId], int]
) -> int:
    """Return the weight that `add` may have; each chain of grants is walked once."""
    place = add.auth, add.author
    if place not in known:
        known[place] = authority_of(add, standing.book.records.get).weight_cap
    return known[place]


def element(content: ContentId, adds: list[Record], caps: list[int]) -> Visible:
    """Return the contribution of these live adds, by id, that may weigh so much each."""
    bodies = [r.body for r in adds if isinstance(r.body, Add)]
    weights = [min(b.weight, cap) for b, cap in zip(bodies, caps, strict=True)]
    manifests = dict.fromkeys((b.manifest, b.manifest_bytes) for b in bodies)
    return Visible(
        content=content,
        weight=max(weights),
        evidence=next((b.evidence for b in bodies if b.evidence), b""),
        adds=tuple(r.id for r in adds),
        authors=tuple(sorted({r.author for r in adds})),
        manifests=tuple(manifests),
        notes=tuple(dict.fromkeys(b.note for b in bodies if b.note)),
        tags=tuple(sorted({tag for body in bodies for tag in body.tags})),
    )


def recipe_heads(effective: Iterable[Record]) -> tuple[Record, ...]:
    """Return the recipes that no other replaces, by id; several are concurrent."""
    changes = {r.id: r for r in effective if isinstance(r.body, RecipeChange)}
    replaced = {
        old
        for record in changes.values()
        if isinstance(record.body, RecipeChange)
        for old in record.body.replaces
    }
    return tuple(changes[key] for key in sorted(changes.keys() - replaced))


def nodes_of(standing: Standing, effective: Iterable[Record]) -> Nodes:
    """Return who claims which transport key, by the last word of each author.

    Several may claim one key, so that nobody can talk another's node away. Of one
    identity the keys named last count, up to a bound: each may connect to every node.
    """
    said = (r for r in effective if isinstance(r.body, NodeAddress))
    rightful = (r for r in said if r.author not in standing.judged)
    last: dict[AuthorId, dict[bytes, tuple[AuthorId, NodeAddress]]] = {}
    for record in sorted(rightful, key=lambda r: _age(standing, r)):
        assert isinstance(record.body, NodeAddress)
        own = last.setdefault(standing.chains[record.author][0], {})
        own.pop(record.body.node, None)  # said again, it is the newest
        own[record.body.node] = record.author, record.body
    nodes: dict[bytes, dict[AuthorId, NodeAddress]] = {}
    for own in last.values():
        for node, (author, body) in list(own.items())[-NODES_PER_AUTHOR_MAX:]:
            nodes.setdefault(node, {})[author] = body
    claimed = {n: dict(sorted(claims.items())) for n, claims in sorted(nodes.items())}
    return Nodes(
        addresses={
            node: tuple(
                dict.fromkeys(a for body in claims.values() for a in body.addresses)
            )
            for node, claims in claimed.items()
        },
        authors={node: tuple(claims) for node, claims in claimed.items()},
    )


def _age(standing: Standing, record: Record) -> tuple[int, int, RecordId]:
    """Return how late the author said something: later keys of an identity came later."""
    place = standing.chains[record.author].index(record.author)
    return place, record.author_seq, record.id
