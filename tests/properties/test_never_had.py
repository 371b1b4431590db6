"""Taken out is as good as never there: the laws that clean a poisoned space.

Sets that a contribution or an author was taken out of mean what sets mean that never had
them: the same visible set, roots and merge id, so the same model.
"""

from collections.abc import Sequence
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import Ban, Body, RecordId, Remove, Revoke
from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.digest import ContentId, Domain, digest
from crdtmerge.faults import Fault
from crdtmerge.forks import Fork
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import Rank
from crdtmerge.record import Record, SignedRecord
from tests.properties.cast import (
    AUTHORS,
    CONTENTS,
    OWNERS,
    add_of,
    grant_of,
    key,
    wire,
    write,
)
from tests.properties.histories import History, Known, histories

MAL = key("mal")
"""Of no history: whoever takes Mal out again restores one."""
POISON = ContentId(digest(Domain.CONTENT, b"poison"))

Act = Literal["remove", "ban content", "ban author", "revoke"]
ACTS: tuple[Act, ...] = ("remove", "ban content", "ban author", "revoke")


def meaning(opset: OpSet) -> object:
    """Return all that a resolve hangs on."""
    view = opset.view
    named = view.merge_id(view.recipe) if view.recipe else b""
    return view.visible_root, view.recipe, view.visible, named


def next_of(opset: OpSet, author: SigningKey, body: Body) -> SignedRecord:
    """Return what an owner signs next, under the genesis."""
    mine = [r for r in opset.records.values() if r.author == author.public]
    last = max(mine, key=lambda r: (r.author_seq, r.id), default=None)
    return wire(write(author, opset.view.genesis, body, after=last))


def poisoned(
    opset: OpSet, adds: Sequence[tuple[int, int]], act: Act
) -> tuple[OpSet, list[RecordId]]:
    """Return the set once an owner let Mal in, who said this; and the ids of the adds.

    Who is to be banned or revoked as an author adds contents of others too, with other
    weights and evidence.
    """
    grant = next_of(opset, OWNERS[0], grant_of(MAL, Rank.CONTRIBUTOR))
    opset = opset.insert([grant])
    last: Record | None = None
    said: list[RecordId] = []
    for pick, weight in adds:
        mixed = act != "ban content" and pick < len(CONTENTS)
        content = CONTENTS[pick] if mixed else POISON
        evidence = bytes([weight]) * 32 if weight % 2 else b""
        body = add_of(
            content,
            weight=(1 + weight) * DECIMAL_UNIT // 8,
            evidence=evidence,
            note=f"number {len(said)}",
        )
        signed = wire(write(MAL, grant.record, body, after=last))
        opset, last = opset.insert([signed]), signed.record
        said.append(signed.record.id)
    return opset, said


def taken_out(opset: OpSet, said: Sequence[RecordId], act: Act) -> OpSet:
    """Return the set once the other owner took out what Mal brought."""
    bodies: dict[Act, Body] = {
        "remove": Remove(tuple(sorted(said))),
        "ban content": Ban("content", POISON),
        "ban author": Ban("author", MAL.public),
        "revoke": Revoke(MAL.public, ()),
    }
    return opset.insert([next_of(opset, OWNERS[1], bodies[act])])


@given(
    histories(),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 7)), min_size=1, max_size=4),
    st.sampled_from(ACTS),
)
def test_what_was_taken_out_leaves_no_trace(
    history: History, adds: list[tuple[int, int]], act: Act
) -> None:
    """Removed, banned or revoked: visible set, root and merge id are what they were."""
    before = history.union()
    during, said = poisoned(before, adds, act)
    after = taken_out(during, said, act)
    assert meaning(after) == meaning(before)
    backwards = OpSet(history.space).insert(
        wire(signed) for signed in reversed(list(after.signed.values()))
    )
    assert meaning(backwards) == meaning(before)


def without(known: Known, author: bytes) -> Known:
    """Return the records that are left if an author never spoke: no grants by it either."""
    gone = {i for i, s in known.items() if s.record.author == author}
    while True:
        more = {i for i, s in known.items() if s.record.auth in gone} - gone
        if not more:
            return {i: s for i, s in known.items() if i not in gone}
        gone |= more


@given(histories(), st.sampled_from([a for a in AUTHORS if a not in OWNERS]))
def test_a_banned_author_might_as_well_never_have_spoken(
    history: History, author: SigningKey
) -> None:
    """Whatever it did, as maintainer too: an owner's ban undoes all but what proves itself.

    Faults and forks stay, whoever showed them; histories with such ones of this author
    are left out.
    """
    known = history.all
    proofs = (Fault, Fork)
    left = without(known, author.public)
    if any(isinstance(known[i].record.body, proofs) for i in known.keys() - left):
        return
    never = history.set_of(left)
    union = history.union()
    banned = union.insert([next_of(union, OWNERS[0], Ban("author", author.public))])
    assert meaning(banned) == meaning(never)
