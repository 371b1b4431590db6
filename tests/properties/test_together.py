"""Owners together, keys that follow keys: against the naive evaluator, and its laws."""

from collections.abc import Callable
from random import Random
from typing import Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from crdtmerge.bodies import Ban, Body, Revoke, Successor
from crdtmerge.errors import CrdtMergeError, MissingAuthorityError
from crdtmerge.identity import AuthorId, SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import COUNCIL, Rank, View
from crdtmerge.record import SignedRecord
from tests.properties.cast import (
    AUTHORS,
    CONTENTS,
    HEIRS,
    STRANGER,
    THREE,
    add_of,
    outcome,
    unknown,
    wire,
    write,
)
from tests.properties.histories import PLAYERS, History, histories_together, speak
from tests.properties.test_visible import agree, last_of, meaning

together = histories_together()
KEYS = {player.public: player for player in PLAYERS}


def judged_owners(view: View) -> list[AuthorId]:
    """Return the keys of owners without rights that no key of their own ended."""
    ended = {body.author for body in view.endings.values()}
    return [
        key
        for key in sorted(view.rightless)
        if view.ranks[key] is Rank.OWNER and key not in ended
    ]


def succeeded(opset: OpSet) -> list[AuthorId]:
    """Return the keys that a council named, and that follow an owner's."""
    records = [opset.records[key] for key in sorted(opset.view.effective)]
    return [
        r.body.key
        for r in records
        if isinstance(r.body, Successor)
        and r.body.of != r.author
        and r.body.key in opset.view.identity(r.body.of)
    ]


HOLDS: Final[dict[str, Callable[[OpSet], object]]] = {
    "an act that waits": lambda opset: opset.view.pending,
    "a succession that is contested": lambda opset: opset.view.contested,
    "a key that a later one ended": lambda opset: opset.view.endings,
    "an author that is quarantined": lambda opset: opset.view.quarantined,
    "an owner whom a council judged": lambda opset: judged_owners(opset.view),
    "a key that a council named": succeeded,
}


def test_histories_hold_what_the_laws_are_about() -> None:
    """Laws over histories in which no council ever meets would say nothing of councils."""
    found: set[str] = set()

    @settings(max_examples=200, derandomize=True, phases=[Phase.generate])
    @given(together)
    def look(history: History) -> None:
        opset = history.union()
        found.update(what for what, holds in HOLDS.items() if holds(opset))

    look()
    assert found == HOLDS.keys()


@given(together)
def test_view_equals_naive_evaluator_of_owners_and_chains(history: History) -> None:
    """Ranks, chains, contests, endings, what waits and what is visible."""
    agree(history.opset(0))
    agree(history.union())


def arrived(history: History, rng: Random) -> OpSet:
    """Return the set that grows record by record, in any order, some of them twice."""
    waiting = list(history.all.values())
    waiting += rng.sample(waiting, len(waiting) // 3)
    rng.shuffle(waiting)
    opset = OpSet(history.space)
    while waiting:
        later: list[SignedRecord] = []
        for signed in waiting:
            try:
                opset = opset.insert([wire(signed)])
            except MissingAuthorityError:
                later.append(signed)
            else:
                if rng.random() < 0.1:
                    _ = opset.view  # what was asked on the way is in nothing
        assert len(later) < len(waiting)
        waiting = later
    return opset


@given(together, st.randoms(use_true_random=False))
def test_all_replicas_agree_whatever_arrived_when(
    history: History, rng: Random
) -> None:
    """Any order, duplicates, joins of parts: one outcome, to the byte."""
    expected = outcome(history.union())
    assert outcome(arrived(history, rng)) == expected
    parts = [history.opset(replica) for replica in range(len(history.known))]
    rng.shuffle(parts)
    assert outcome(parts[0].join(parts[1]).join(parts[2])) == expected


@given(together, st.integers(0, 40))
def test_who_has_no_grant_changes_nothing(history: History, pick: int) -> None:
    """Whatever a stranger signs, and whatever it names: refused; roots and view stay."""
    opset = history.union()
    mode = getattr(opset.view.genesis.body, "mode", "")
    named = {
        r.body.key for r in opset.records.values() if isinstance(r.body, Successor)
    }
    granted = {
        getattr(r.body, "author", None)
        for r in opset.records.values()
        if r.kind == "grant"
    }
    outside = [
        key
        for key in (STRANGER, *HEIRS)
        if key.public not in named | granted and mode == "members"
    ]
    before, roots = outcome(opset), (opset.root, opset.view.visible_root)
    bodies: list[Body] = [
        add_of(CONTENTS[0]),
        Ban("author", THREE[pick % 3].public),
        Revoke(THREE[pick % 3].public, ()),
        unknown(),
    ]
    grants = sorted(opset.records.values(), key=lambda r: r.id)
    for key in outside:
        for body in bodies:
            grant = grants[pick % len(grants)]
            with pytest.raises(CrdtMergeError):
                opset.insert([wire(write(key, grant, body))])
    assert (opset.root, opset.view.visible_root) == roots
    assert outcome(opset) == before


@given(together)
def test_admission_is_monotone(history: History) -> None:
    """What one replica admitted any larger set admits; what it refused stays refused."""
    union = history.union()
    for replica in range(len(history.known)):
        part = history.opset(replica)
        assert part.signed.keys() <= union.signed.keys()
    refused = write(AUTHORS[6], union.view.genesis, Ban("author", THREE[0].public))
    for opset in (history.opset(0), union):
        with pytest.raises(CrdtMergeError):
            opset.insert([refused])


@given(together)
def test_owners_are_judged_by_councils_alone(history: History) -> None:
    """An owner without rights: a council judged it, or a later key of its own did."""
    opset = history.union()
    view = opset.view
    decided = {key for key, acted in view.acts.items() if acted == COUNCIL}
    for key in judged_owners(view):
        judges = {i for i, b in view.bans.items() if b.target in view.identity(key)}
        judges |= {
            i for i, r in view.revocations.items() if r.author in view.identity(key)
        }
        assert decided & judges


@given(together, st.integers(0, 40), st.sampled_from(CONTENTS))
def test_an_ended_key_adds_nothing_to_what_is_merged(
    history: History, pick: int, content: bytes
) -> None:
    """Forward, forked or backdated: only what its successor accepted counts."""
    opset = history.union()
    ended = sorted({body.author for body in opset.view.endings.values()})
    for author in ended:
        key: SigningKey = KEYS[author]
        for body in (add_of(CONTENTS[pick % 4]), Ban("content", content)):
            signed = speak(history.all, key, body, pick, pick % 14)
            if signed is None or signed.record.id in opset:
                continue
            after = opset.insert([wire(signed)])
            assert signed.record.id not in after.view.effective
            assert meaning(after.view) == meaning(opset.view)


@given(together)
def test_a_ban_of_any_key_is_a_ban_of_the_identity(history: History) -> None:
    """Owners ban the last key of a chain: no key of it has any effect, nor a new one."""
    opset = history.union()
    view = opset.view
    owner = next((o for o in THREE if o.public not in view.rightless), None)
    long = [
        chain
        for chain in sorted(set(view.chains.values()))
        if len(chain) > 1 and view.ranks[chain[0]] < Rank.OWNER
    ]
    if owner is None or not long or owner.public in view.quarantined:
        return
    body = view.genesis.body
    last = last_of(opset, owner)
    alone = getattr(body, "threshold", 1) > 1
    if alone and view.ranks[long[0][0]] >= Rank.MAINTAINER:
        return
    root = opset.records[view.genesis.id]
    ban = Ban("author", long[0][-1])
    after = opset.insert(
        [wire(write(owner, root, ban, after=last.record if last else None))]
    )
    for record in after.view.effective:
        assert after.records[record].author not in long[0] or record in view.acts
