"""Trie repair finds what a peer holds and we lack, cheaply, and believes nothing odd."""

from dataclasses import dataclass

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import MalformedMessageError
from crdtmerge.sync.messages import (
    PREFIXES_MAX,
    TrieInner,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.reconcile import (
    REPAIR_DEPTH_MAX,
    REPAIR_NODES_SPARE,
    Descent,
    answer,
)
from crdtmerge.trie import RADIX, Leaf, Prefix, Trie
from nodes.convert import encode

SPACE = SpaceId(bytes(32))
IDS = [digest(Domain.RECORD, number.to_bytes(4, "big")) for number in range(10_000)]


@dataclass
class Cost:
    """What one descent sent in both directions."""

    rounds: int = 0
    asked_bytes: int = 0
    answered_bytes: int = 0


def repair(ours: Trie, theirs: Trie) -> tuple[set[bytes], Cost]:
    """Run one descent to its end; return what we lack and what finding it cost."""
    descent, cost = Descent(ours), Cost()
    while prefixes := descent.ask():
        nodes = tuple(answer(theirs, prefixes))
        descent.take(nodes)
        cost.rounds += 1
        cost.asked_bytes += len(encode(TrieRequest(SPACE, prefixes)))
        cost.answered_bytes += len(encode(TrieReply(SPACE, nodes)))
    return set(descent.lacking), cost


@pytest.mark.parametrize(
    ("differences", "rounds_max", "bytes_max"),
    [(0, 1, 800), (1, 4, 2_500), (100, 4, 80_000), (1_000, 5, 300_000)],
)
def test_cost_follows_the_difference_not_the_set(
    differences: int, rounds_max: int, bytes_max: int
) -> None:
    """Of 10,000 ids, exactly those that we lack are found, for a bounded price."""
    theirs = Trie.build(IDS)
    ours = Trie.build(IDS[differences:])

    lacking, cost = repair(ours, theirs)

    assert lacking == set(IDS[:differences])
    assert cost.rounds <= rounds_max
    assert cost.asked_bytes + cost.answered_bytes <= bytes_max


@pytest.mark.parametrize("ours_count", [0, 1, 16, 17, 300])
@pytest.mark.parametrize("theirs_count", [0, 1, 16, 17, 300])
def test_any_two_sizes_line_up(ours_count: int, theirs_count: int) -> None:
    """Whatever the shapes of both tries, what we lack is what is found."""
    ours = set(IDS[200 : 200 + ours_count])
    theirs = set(IDS[: theirs_count // 2] + IDS[300 : 300 + theirs_count])

    lacking, _ = repair(Trie.build(ours), Trie.build(theirs))

    assert lacking == theirs - ours


def test_a_superset_finds_nothing() -> None:
    """Who has all that the peer has lacks nothing, though the roots differ."""
    lacking, _ = repair(Trie.build(IDS), Trie.build(IDS[::2]))
    assert lacking == set()


def test_a_peer_that_grows_meanwhile_is_no_liar() -> None:
    """Nodes may turn from leaves to inner ones under the descent; no id is missed."""
    theirs = Trie.build(IDS[:3_000])
    descent = Descent(Trie.build(IDS[:100]))
    grown = 3_000
    while prefixes := descent.ask():
        descent.take(tuple(answer(theirs, prefixes)))
        grown = min(grown + 1_000, len(IDS))
        theirs = theirs.insert(IDS[grown - 1_000 : grown])
    assert set(IDS[100:3_000]) <= set(descent.lacking)


def test_a_cut_reply_is_asked_for_again() -> None:
    """A reply may hold the first nodes only; the rest is asked for in the next round."""
    theirs = Trie.build(IDS[:500])
    descent = Descent(Trie())
    while prefixes := descent.ask():
        descent.take(tuple(answer(theirs, prefixes))[:3])
    assert set(descent.lacking) == set(IDS[:500])


def test_an_answer_fits_one_message() -> None:
    """However many nodes are asked for, and even the same one again and again."""
    prefixes = tuple((a, b) for a in range(16) for b in range(16)) * 4
    nodes = tuple(answer(Trie.build(IDS), prefixes))
    assert len(encode(TrieReply(SPACE, nodes))) <= 1 << 20


@pytest.mark.parametrize(
    "prefixes",
    [(), ((16,),), ((-1,),), ((0,) * 65,), ((),) * (PREFIXES_MAX + 1)],
)
def test_no_odd_question_is_answered(prefixes: tuple[Prefix, ...]) -> None:
    """A question out of bounds is the peer's fault, not an IndexError of ours."""
    with pytest.raises(MalformedMessageError):
        tuple(answer(Trie.build(IDS), prefixes))


def hashes(count: int = RADIX) -> tuple[bytes, ...]:
    """Return made-up hashes of children."""
    return tuple(digest(Domain.SEED, bytes([n])) for n in range(count))


@pytest.mark.parametrize(
    "nodes",
    [
        (),
        (TrieInner((1,), hashes()),),
        (TrieInner((), hashes()), TrieInner((), hashes())),
        (TrieInner((), hashes(15)),),
        (TrieInner((), hashes(17)),),
        (TrieLeaf((), tuple(IDS[:17])),),
        (TrieLeaf((), (b"short",)),),
    ],
    ids=["none", "another", "twice", "15", "17", "fat-leaf", "short-id"],
)
def test_malformed_nodes_are_refused(nodes: tuple[TrieLeaf | TrieInner, ...]) -> None:
    """What is not a node of a trie at the prefix asked for ends the session."""
    descent = Descent(Trie.build(IDS))
    descent.ask()
    with pytest.raises(MalformedMessageError):
        descent.take(nodes)


def test_nodes_after_the_last_question_are_refused() -> None:
    """Nothing asked for means that nothing may come."""
    descent = Descent(Trie())
    with pytest.raises(MalformedMessageError):
        descent.take((TrieLeaf((), ()),))


def test_ids_must_lie_below_their_leaf() -> None:
    """A leaf may not name ids of elsewhere: they would be asked for twice."""
    theirs = Trie.build(IDS)
    descent = Descent(Trie())
    descent.ask()
    descent.take(tuple(answer(theirs, ((),))))
    prefixes = descent.ask()
    foreign = next(i for i in IDS if i[0] >> 4 != prefixes[0][0])
    with pytest.raises(MalformedMessageError):
        descent.take((TrieLeaf(prefixes[0], (foreign,)),))


def test_made_up_nodes_end_and_stay_small() -> None:
    """A peer that makes up differing nodes for ever is cut off; the frontier is bounded."""
    descent = Descent(Trie.build(IDS[:100]))
    limit = REPAIR_NODES_SPARE + 200
    sizes: list[int] = []

    def made_up(prefix: Prefix) -> TrieLeaf | TrieInner:
        deep = len(prefix) >= 8
        return TrieLeaf(prefix, ()) if deep else TrieInner(prefix, hashes())

    def make_up() -> None:
        while prefixes := descent.ask():
            descent.take(tuple(made_up(prefix) for prefix in prefixes))
            sizes.append(len(descent.frontier))

    with pytest.raises(MalformedMessageError):
        make_up()
    assert limit < descent.taken <= limit + PREFIXES_MAX
    assert max(sizes) <= PREFIXES_MAX * RADIX * REPAIR_DEPTH_MAX


def test_a_bottomless_branch_is_cut_off() -> None:
    """One branch that goes deeper than ids can make it is refused at a stated depth."""
    descent = Descent(Trie())
    depths: list[int] = []

    def go_down() -> None:
        while prefixes := descent.ask():
            depths.append(len(prefixes[0]))
            empty = Leaf(depths[-1] + 1, ()).hash
            children = (hashes()[0], *(empty,) * (RADIX - 1))
            descent.take((TrieInner(prefixes[0], children),))

    with pytest.raises(MalformedMessageError):
        go_down()
    assert depths[-1] == REPAIR_DEPTH_MAX
