"""What is visible, against a naive evaluator, and the laws of bans and removes."""

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import Add, Ban, Lift, Remove
from crdtmerge.digest import ContentId
from crdtmerge.errors import CrdtMergeError
from crdtmerge.faults import Fault
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import Rank, View
from crdtmerge.record import SignedRecord
from tests.properties.cast import (
    AUTHORS,
    CONTENTS,
    FAULTS,
    OWNERS,
    add_of,
    outcome,
    unknown,
    wire,
    write,
)
from tests.properties.histories import CALM, History, histories, speak
from tests.properties.oracle import Oracle, facts_of, trie_root


def oracle_of(opset: OpSet) -> Oracle:
    """Return the naive reading of a set, from its bytes."""
    return Oracle(facts_of([s.record.data for s in opset.signed.values()]))


def agree(opset: OpSet) -> None:
    """Check the view of `opset` against the naive one."""
    view, naive = opset.view, oracle_of(opset)
    shown = {v.content: (v.weight, v.evidence) for v in view.visible}
    assert shown == naive.visible()
    assert [v.content for v in view.visible] == sorted(shown)
    assert view.visible_root == naive.visible_root()
    assert list(view.recipe_heads) == naive.heads()
    assert {author: int(rank) for author, rank in view.ranks.items()} == naive.ranks
    assert view.effective == {fact.id for fact in naive.effective}
    assert set(view.faults) == naive.faulty()
    assert {fork.place for fork in view.forks} == naive.forked()
    assert view.quarantined == naive.quarantined()
    stand = naive.court.bottom
    assert view.chains == stand.chains
    assert view.rightless == stand.judged
    assert set(view.contested) == stand.contested
    assert set(view.endings) == stand.ended
    assert {ban.id for ban in naive.judgements()} == {*view.bans, *view.revocations}
    assert {one.record for one in view.evaluations} == naive.evaluations()
    assert {act.record: (set(act.signers), act.needed) for act in view.pending} == (
        naive.pending()
    )
    assert opset.root == trie_root(list(opset.signed))


@given(histories())
def test_view_equals_naive_evaluator(history: History) -> None:
    """Visible set, weights, evidence, roots, ranks, recipe: all as the oracle has them."""
    agree(history.opset(0))
    agree(history.union())


@given(histories(actions=CALM))
def test_view_equals_naive_evaluator_without_judgements(history: History) -> None:
    """As above, where no author loses rights, so that more adds and removes meet."""
    agree(history.union())


def last_of(opset: OpSet, author: SigningKey) -> SignedRecord | None:
    """Return the author's newest record."""
    mine = [s for s in opset.signed.values() if s.record.author == author.public]
    return max(mine, key=lambda s: (s.record.author_seq, s.record.id), default=None)


def say(
    opset: OpSet, author: SigningKey, body: Add | Ban | Lift | Remove
) -> SignedRecord:
    """Let an owner write the next record, under the genesis."""
    root = opset.records[opset.view.genesis.id]
    last = last_of(opset, author)
    return wire(write(author, root, body, after=last.record if last else None))


@given(histories(), st.sampled_from(CONTENTS))
def test_ban_wins_over_any_add_and_lift_restores(
    history: History, content: ContentId
) -> None:
    """An owner's ban hides a content id even from later adds; its lift undoes all of it."""
    before = history.union()
    ban = say(before, OWNERS[0], Ban("content", content))
    banned = before.insert([ban])
    again = banned.insert([say(banned, OWNERS[1], add_of(content))])
    for opset in (banned, again):
        assert content not in {v.content for v in opset.view.visible}
    lifted = banned.insert([say(banned, OWNERS[1], Lift(ban.record.id))])
    still = {b.target for b in lifted.view.bans.values() if b.subject == "content"}
    assert content in still or lifted.view.visible == before.view.visible


@given(histories(), st.sampled_from(CONTENTS))
def test_concurrent_add_survives_remove(history: History, content: ContentId) -> None:
    """A remove takes the adds that its author saw; one that it did not see stays."""
    opset = history.union()
    seen = [v.adds for v in opset.view.visible if v.content == content]
    add = say(opset, OWNERS[1], add_of(content))
    out = {b.target for b in opset.view.bans.values()} | opset.view.faults.keys()
    if not seen or content in out:
        return
    remove = say(opset, OWNERS[0], Remove(seen[0]))
    after = opset.insert([remove, add]).view
    owner = {OWNERS[0].public, OWNERS[1].public}
    (left,) = [v for v in after.visible if v.content == content]
    kept = {i for i in seen[0] if opset.records[i].author in owner - {OWNERS[0].public}}
    assert set(left.adds) == {add.record.id} | kept


@given(histories(), st.sampled_from(FAULTS), st.sampled_from(AUTHORS))
def test_a_fault_takes_its_content_out_for_good(
    history: History, fault: Fault, author: SigningKey
) -> None:
    """Whoever may say it shows it: nothing else changes, and no later record undoes it."""
    before = history.union()
    signed = speak(history.all, author, fault, 0, 0)
    if signed is None:
        return
    shown = before.insert([wire(signed)])
    again = shown.insert([say(shown, OWNERS[1], add_of(fault.content))])
    key = shown.view.faults[fault.content]
    lifted = again.insert([say(again, OWNERS[1], Lift(key))])
    banned = lifted.insert([say(lifted, OWNERS[1], Ban("author", author.public))])
    kept = [v for v in before.view.visible if v.content != fault.content]
    for opset in (shown, again, lifted):
        assert [v for v in opset.view.visible if v.content != fault.content] == kept
    for opset in (shown, again, lifted, banned):
        assert fault.content in opset.view.faults
        assert fault.content not in {v.content for v in opset.view.visible}


@given(histories())
def test_faults_only_grow(history: History) -> None:
    """What some records show, they show with any others beside them."""
    union = history.union().view.faults
    for replica in range(len(history.known)):
        assert set(history.opset(replica).view.faults) <= set(union)


def meaning(view: View) -> tuple[bytes, object, object]:
    """Return what resolve sees of a view."""
    return view.visible_root, view.recipe, view.visible


@given(histories(), st.sampled_from(AUTHORS), st.integers(0, 20))
def test_remove_from_below_changes_nothing(
    history: History, author: SigningKey, pick: int
) -> None:
    """A remove of another's add counts only if its author stands strictly above."""
    opset = history.union()
    ranks = opset.view.ranks
    mine = ranks.get(author.public, Rank.READER)
    others = sorted(
        add
        for shown in opset.view.visible
        for add in shown.adds
        if opset.records[add].author != author.public
        and ranks[opset.records[add].author] >= mine
    )
    if not others:
        return
    body = Remove((others[pick % len(others)],))
    last = last_of(opset, author)
    for grant in opset.records.values():
        signed = write(author, grant, body, after=last.record if last else None)
        try:
            after = opset.insert([wire(signed)])
        except CrdtMergeError:
            continue
        assert meaning(after.view) == meaning(opset.view)


@given(histories())
def test_what_is_unknown_has_no_effect(history: History) -> None:
    """An unknown kind is stored, moves the record root, and changes nothing else."""
    opset = history.union()
    last = last_of(opset, OWNERS[0])
    assert last is not None
    for critical in (False, True):
        root = opset.view.genesis
        signed = write(OWNERS[0], root, unknown(), after=last.record, critical=critical)
        after = opset.insert([wire(signed)])
        assert after.root != opset.root
        assert meaning(after.view) == meaning(opset.view)
        kinds = {*opset.view.unknown_critical, "census"} if critical else set()
        assert kinds <= set(after.view.unknown_critical)


@given(histories())
def test_owners_cannot_be_judged(history: History) -> None:
    """No record takes an owner's rights, and no owner stands below its rank."""
    view = history.union().view
    for owner in OWNERS:
        assert view.ranks[owner.public] is Rank.OWNER
        assert owner.public not in view.rightless


@given(histories())
def test_view_is_a_function_of_the_set_alone(history: History) -> None:
    """Two sets built in opposite orders mean the same to the byte."""
    records = list(history.all.values())
    forward = OpSet(history.space).insert(map(wire, records))
    backward = OpSet(history.space).insert(map(wire, reversed(records)))
    assert outcome(forward) == outcome(backward)
