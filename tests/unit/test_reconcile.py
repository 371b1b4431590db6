"""Trie repair finds what a peer holds and we lack, cheaply, and believes nothing odd."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import Domain, digest
from crdtmerge.errors import MalformedMessageError
from crdtmerge.sync import reconcile
from crdtmerge.sync.compare import EMPTY, ClueDescent, compare, first_prefixes
from crdtmerge.sync.messages import (
    CLUE_BYTES,
    LISTED_MAX,
    PREFIXES_MAX,
    SALT_BYTES,
    SECTIONS_MAX,
    Clues,
    CompareReply,
    CompareRequest,
    Ids,
    Section,
    TrieInner,
    TrieLeaf,
    TrieReply,
    TrieRequest,
)
from crdtmerge.sync.pulls import AnyDescent
from crdtmerge.sync.reconcile import (
    FRONTIER_MAX,
    REPAIR_DEPTH_MAX,
    REPAIR_NODES_SPARE,
    WholeDescent,
    answer,
)
from crdtmerge.trie import RADIX, Leaf, Prefix, Trie
from nodes.convert import decode, encode

SPACE = SpaceId(bytes(32))
SALT = bytes(range(SALT_BYTES))
IDS = [digest(Domain.RECORD, number.to_bytes(4, "big")) for number in range(10_000)]
WAYS = ["whole", "by_clues"]


@dataclass
class Cost:
    """What one descent sent in both directions."""

    messages: int = 0
    sizes: list[int] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all messages."""
        return sum(self.sizes)


def descent_of(way: str) -> AnyDescent:
    """Return a descent that speaks one encoding or the other."""
    return WholeDescent() if way == "whole" else ClueDescent(salt=SALT)


def answered(
    trie: Trie, question: TrieRequest | CompareRequest
) -> TrieReply | CompareReply:
    """Return the answer from `trie`."""
    if isinstance(question, TrieRequest):
        return TrieReply(SPACE, tuple(answer(trie, question.prefixes)))
    covered, found = compare(trie, question.salt, question.sections)
    return CompareReply(SPACE, tuple(found), covered)


def take(descent: AnyDescent, trie: Trie, reply: object) -> None:
    """Hand a reply to the descent that is of its kind."""
    if isinstance(descent, ClueDescent):
        assert isinstance(reply, CompareReply)
        descent.take(trie, reply)
    else:
        assert isinstance(reply, TrieReply)
        descent.take(trie, reply)


def repair(ours: Trie, theirs: Trie, way: str) -> tuple[set[bytes], Cost]:
    """Run one descent to its end; return what we lack and what finding it cost."""
    descent, cost = descent_of(way), Cost()
    while question := descent.question(SPACE, ours):
        asked = encode(question)
        received = decode(asked)
        assert isinstance(received, TrieRequest | CompareRequest)
        reply = encode(answered(theirs, received))
        take(descent, ours, decode(reply))
        cost.sizes += [len(asked), len(reply)]
    return set(descent.lacking), cost


@pytest.mark.parametrize(
    ("way", "differences", "messages_max", "bytes_max"),
    [
        ("whole", 0, 2, 800),
        ("whole", 1, 8, 2_500),
        ("whole", 100, 8, 80_000),
        ("whole", 1_000, 10, 300_000),
        ("by_clues", 0, 2, 200),
        ("by_clues", 1, 6, 600),
        ("by_clues", 100, 6, 25_000),
        ("by_clues", 1_000, 6, 90_000),
    ],
)
def test_cost_follows_the_difference_not_the_set(
    way: str, differences: int, messages_max: int, bytes_max: int
) -> None:
    """Of 10,000 ids, exactly those that we lack are found, for a bounded price."""
    theirs = Trie.build(IDS)
    ours = Trie.build(IDS[differences:])

    lacking, cost = repair(ours, theirs, way)

    assert lacking == set(IDS[:differences])
    assert len(cost.sizes) <= messages_max
    assert cost.size <= bytes_max


@pytest.mark.parametrize(
    ("count", "gap", "depth"),
    [
        (0, 0, 0),
        (0, 2**63 - 1, 0),
        (500, 0, 1),
        (500, 2**63 - 1, 1),
        (10_000, 511, 0),
        (10_000, 512, 2),
        (100_000, 8_191, 1),
        (100_000, 8_192, 3),
        (10**6, 511, 0),
        (10**6, 512, 2),
        (10**9, 2**63 - 1, 3),
    ],
)
def test_where_a_comparison_begins(count: int, gap: int, depth: int) -> None:
    """An even number of levels above the lists, deeper if most differs; never far down."""
    prefixes = first_prefixes(count, gap)
    assert len(set(prefixes)) == len(prefixes) == RADIX**depth
    assert {len(prefix) for prefix in prefixes} == {depth}


@pytest.mark.parametrize("count", [300, 3_000, 10_000])
def test_lists_are_come_to_without_a_level_too_many(count: int) -> None:
    """Who begins at the right depth asks for no level that the lists would have spared."""
    theirs, ours = Trie.build(IDS[:count]), Trie.build(IDS[1:count])
    descent = ClueDescent(first_prefixes(len(ours), 1), salt=SALT)
    messages = 0
    while question := descent.question(SPACE, ours):
        take(descent, ours, answered(theirs, question))
        messages += 2
    assert set(descent.lacking) == {IDS[0]}
    assert messages == (2 if count < 1_000 else 4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ours_count", [0, 1, 16, 17, 64, 65, 300])
@pytest.mark.parametrize("theirs_count", [0, 1, 16, 17, 64, 65, 300])
def test_any_two_sizes_line_up(ours_count: int, theirs_count: int, way: str) -> None:
    """Whatever the shapes of both tries, what we lack is what is found."""
    ours = set(IDS[200 : 200 + ours_count])
    theirs = set(IDS[: theirs_count // 2] + IDS[300 : 300 + theirs_count])

    lacking, _ = repair(Trie.build(ours), Trie.build(theirs), way)

    assert lacking == theirs - ours


@pytest.mark.parametrize("way", WAYS)
def test_a_superset_finds_nothing(way: str) -> None:
    """Who has all that the peer has lacks nothing, though the roots differ."""
    lacking, _ = repair(Trie.build(IDS), Trie.build(IDS[::2]), way)
    assert lacking == set()


@pytest.mark.parametrize("way", WAYS)
def test_tries_that_grow_meanwhile_lie_to_nobody(way: str) -> None:
    """Nodes may turn from leaves to inner ones under the descent; no id is missed."""
    theirs, ours = Trie.build(IDS[:3_000]), Trie.build(IDS[:100])
    descent = descent_of(way)
    grown = 3_000
    while question := descent.question(SPACE, ours):
        take(descent, ours, answered(theirs, question))
        grown = min(grown + 1_000, len(IDS))
        theirs = theirs.insert(IDS[grown - 1_000 : grown])
        ours = ours.insert(IDS[grown - 950 : grown - 900])
    assert set(IDS[100:3_000]) <= set(descent.lacking)


def test_a_cut_reply_is_asked_for_again() -> None:
    """A reply may hold the first nodes only; the rest is asked for in the next round."""
    theirs = Trie.build(IDS[:500])
    descent = WholeDescent()
    while question := descent.question(SPACE, Trie()):
        nodes = tuple(answer(theirs, question.prefixes))[:3]
        descent.take(Trie(), TrieReply(SPACE, nodes))
    assert set(descent.lacking) == set(IDS[:500])


def test_a_cut_comparison_goes_on_and_repeats_little() -> None:
    """What an answer did not cover is shown again, and not much more than it can take."""
    theirs, ours = Trie.build(IDS), Trie.build(IDS[:2_000])
    descent, shown, covered = ClueDescent(salt=SALT), 0, 0
    while question := descent.question(SPACE, ours):
        part = question.sections[:5]
        done, found = compare(theirs, SALT, part)
        descent.take(ours, CompareReply(SPACE, tuple(found), done))
        shown, covered = shown + len(question.sections), covered + done
    assert set(descent.lacking) == set(IDS[2_000:])
    assert shown <= 2 * covered + SECTIONS_MAX


def test_no_answer_is_above_a_message() -> None:
    """However much is asked for, and even the same again and again."""
    trie = Trie.build(IDS)
    pairs = [(a, b) for a in range(16) for b in range(16)]
    nodes = tuple(answer(trie, tuple(pairs) * 4))
    assert len(encode(TrieReply(SPACE, nodes))) <= 1 << 20

    shown = [Clues((a,), (b"none",) * RADIX) for a in range(16)] * 512
    covered, found = compare(trie, SALT, shown)
    assert 0 < covered < len(shown)
    assert len(encode(CompareReply(SPACE, tuple(found), covered))) <= 1 << 20


def test_a_question_is_never_above_a_message() -> None:
    """A frontier of thousands of prefixes is asked for in several messages."""
    trie = Trie.build(IDS)
    pairs: list[Prefix] = [(n >> 4, n & 15) for n in range(256)]
    descent = ClueDescent(salt=SALT, frontier=pairs * (SECTIONS_MAX // 200))
    sizes = []
    while question := descent.question(SPACE, trie):
        sizes.append(len(encode(question)))
    assert len(sizes) == 2
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize(
    "prefixes",
    [(), ((16,),), ((-1,),), ((0,) * 65,), ((),) * (PREFIXES_MAX + 1)],
)
def test_no_odd_question_is_answered(prefixes: tuple[Prefix, ...]) -> None:
    """A question out of bounds is the peer's fault, not an IndexError of ours."""
    with pytest.raises(MalformedMessageError):
        tuple(answer(Trie.build(IDS), prefixes))


NONE = (EMPTY,) * RADIX


@pytest.mark.parametrize(
    "sections",
    [
        (),
        (Clues((16,), NONE),),
        (Ids((0,) * 65, ()),),
        (Clues((), NONE[:15]),),
        (Ids((), ()),) * (SECTIONS_MAX + 1),
    ],
    ids=["none", "no-nibble", "too-deep", "15", "too-many"],
)
def test_no_odd_comparison_is_answered(sections: tuple[Section, ...]) -> None:
    """Nor one that shows what is no section."""
    with pytest.raises(MalformedMessageError):
        compare(Trie.build(IDS), SALT, sections)


@pytest.mark.parametrize("depth", [62, 63, 64])
def test_the_deepest_prefixes_have_answers(depth: int) -> None:
    """A peer may ask at any depth that a digest has, though no trie of ids gets there."""
    trie = Trie.build(IDS)
    path = tuple(n for byte in IDS[0] for n in (byte >> 4, byte & 15))[:depth]
    covered, found = compare(trie, SALT, [Clues(path, NONE), Ids(path, ())])
    assert covered == 2
    assert found[-1] == Ids(path, (IDS[0],))


def test_clues_are_of_one_salt() -> None:
    """Under another salt all clues are others, so that no collision lasts."""
    first, other = (
        ClueDescent(salt=salt).question(SPACE, Trie.build(IDS))
        for salt in (SALT, SALT[::-1])
    )
    assert first is not None
    assert other is not None
    (one,), (two,) = first.sections, other.sections
    assert isinstance(one, Clues)
    assert isinstance(two, Clues)
    assert not set(one.clues) & set(two.clues)
    assert {len(clue) for clue in one.clues} == {CLUE_BYTES}


def test_a_collision_of_clues_hides_an_id_from_one_comparison_alone() -> None:
    """Ids whose clues collide under one salt are told apart under the next."""
    salts = [bytes([n]) * SALT_BYTES for n in range(2)]
    ours = Trie.build(IDS[:1])
    theirs = Trie.build(IDS[:2])
    (shown,) = _question(ClueDescent(salt=salts[0]), ours).sections
    (hidden,) = _question(ClueDescent(salt=salts[0]), Trie.build(IDS[1:2])).sections
    assert isinstance(shown, Ids)
    assert isinstance(hidden, Ids)
    collided = Ids((), (*shown.ids, *hidden.ids))  # as if ours had the clue of theirs
    assert compare(theirs, salts[0], [collided]) == (1, [])
    assert compare(theirs, salts[1], [collided])[1] == [Ids((), tuple(sorted(IDS[:2])))]


def _question(descent: ClueDescent, trie: Trie) -> CompareRequest:
    question = descent.question(SPACE, trie)
    assert question is not None
    return question


# --- lies ------------------------------------------------------------------------------


def hashes(count: int = RADIX) -> tuple[bytes, ...]:
    """Return made-up hashes of children."""
    return tuple(digest(Domain.SEED, bytes([n])) for n in range(count))


def clues(count: int = RADIX) -> tuple[bytes, ...]:
    """Return made-up clues of children."""
    return tuple(known[:CLUE_BYTES] for known in hashes(count))


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
    descent, trie = WholeDescent(), Trie.build(IDS)
    descent.question(SPACE, trie)
    with pytest.raises(MalformedMessageError):
        descent.take(trie, TrieReply(SPACE, nodes))


def in_one(step: int) -> tuple[bytes, ...]:
    """Return ids of which all start with one nibble."""
    return tuple(i for i in IDS if i[0] >> 4 == step)


@pytest.mark.parametrize(
    ("sections", "covered"),
    [
        ((), 0),
        ((), 2),
        ((Clues((), clues()),), 1),
        ((Clues((1, 2), clues()),), 1),
        ((Clues((1,), clues()), Clues((1,), clues())), 1),
        ((Clues((2,), clues()), Clues((1,), clues())), 1),
        ((Clues((1,), clues(15)),), 1),
        ((Ids((1,), in_one(1)[: LISTED_MAX + 1]),), 1),
        ((Ids((1,), in_one(2)[:1]),), 1),
        ((Ids((1,), (b"\x10",)),), 1),
    ],
    ids=[
        "nothing-covered", "too-much-covered", "not-below", "too-deep", "twice",
        "backwards", "15", "fat", "elsewhere", "short-id",
    ],
)  # fmt: skip
def test_malformed_sections_are_refused(
    sections: tuple[Section, ...], covered: int
) -> None:
    """Only children of what we showed may come, each once and in order."""
    descent, trie = ClueDescent(salt=SALT), Trie.build(IDS)
    descent.question(SPACE, trie)
    with pytest.raises(MalformedMessageError):
        descent.take(trie, CompareReply(SPACE, sections, covered))


@pytest.mark.parametrize("section", [Ids((0,), ()), Clues((0,), NONE)])
def test_a_list_is_answered_at_its_place(section: Section) -> None:
    """Where we listed what we have, nothing below is an answer."""
    descent = ClueDescent(salt=SALT)
    assert isinstance(_question(descent, Trie()).sections[0], Ids)
    with pytest.raises(MalformedMessageError):
        descent.take(Trie(), CompareReply(SPACE, (section,), 1))


def test_what_lies_beyond_the_covered_is_refused() -> None:
    """A reply may not answer a section that it does not cover, and have it asked again."""
    trie = Trie.build(IDS)
    descent = ClueDescent(salt=SALT, frontier=[(1,), (2,)])
    descent.question(SPACE, trie)
    with pytest.raises(MalformedMessageError):
        descent.take(trie, CompareReply(SPACE, (Clues((2, 0), clues()),), 1))


@pytest.mark.parametrize("way", WAYS)
def test_nodes_after_the_last_question_are_refused(way: str) -> None:
    """Nothing asked for means that nothing may come."""
    reply = (
        TrieReply(SPACE, (TrieLeaf((), ()),))
        if way == "whole"
        else CompareReply(SPACE, (), 1)
    )
    with pytest.raises(MalformedMessageError):
        take(descent_of(way), Trie(), reply)


def test_ids_must_lie_below_their_leaf() -> None:
    """A leaf may not name ids of elsewhere: they would be asked for twice."""
    theirs = Trie.build(IDS)
    descent = WholeDescent()
    descent.question(SPACE, Trie())
    descent.take(Trie(), TrieReply(SPACE, tuple(answer(theirs, ((),)))))
    question = descent.question(SPACE, Trie())
    assert question is not None
    foreign = next(i for i in IDS if i[0] >> 4 != question.prefixes[0][0])
    leaf = TrieLeaf(question.prefixes[0], (foreign,))
    with pytest.raises(MalformedMessageError):
        descent.take(Trie(), TrieReply(SPACE, (leaf,)))


def made_up(question: TrieRequest | CompareRequest) -> TrieReply | CompareReply:
    """Return nodes that differ everywhere, and end without an id."""
    if isinstance(question, TrieRequest):
        return TrieReply(
            SPACE,
            tuple(
                TrieLeaf(p, ()) if len(p) >= 8 else TrieInner(p, hashes())
                for p in question.prefixes
            ),
        )
    places = list(_places(question.sections))[:SECTIONS_MAX]
    shown = tuple(Clues(p, clues()) for p in places if len(p) < 12)
    return CompareReply(SPACE, shown, len(question.sections))


def _places(sections: tuple[Section, ...]) -> Iterator[Prefix]:
    for section in sections:
        if isinstance(section, Ids):
            yield section.prefix
        else:
            yield from ((*section.prefix, step) for step in range(RADIX))


@pytest.mark.parametrize("way", WAYS)
def test_made_up_nodes_end_and_stay_small(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that makes up differing nodes for ever is cut off; the frontier is bounded."""
    trie = Trie.build(IDS[:100])
    descent = descent_of(way)
    spare = REPAIR_NODES_SPARE >> 3  # as many take seconds
    monkeypatch.setattr(reconcile, "REPAIR_NODES_SPARE", spare)
    limit = spare + 200
    sizes: list[int] = []

    def make_up() -> None:
        while question := descent.question(SPACE, trie):
            take(descent, trie, made_up(question))
            sizes.append(len(descent.frontier))

    with pytest.raises(MalformedMessageError):
        make_up()
    assert limit < descent.taken <= limit + SECTIONS_MAX
    assert max(sizes) <= FRONTIER_MAX


@pytest.mark.parametrize("way", WAYS)
def test_a_bottomless_path_is_cut_off(way: str) -> None:
    """One path that goes deeper than ids can make it is refused at a stated depth."""
    descent = descent_of(way)
    depths: list[int] = []

    def go_down() -> None:
        while question := descent.question(SPACE, Trie()):
            if isinstance(question, TrieRequest):
                (prefix,) = question.prefixes
                empty = Leaf(len(prefix) + 1, ()).hash
                inner = TrieInner(prefix, (hashes()[0], *(empty,) * (RADIX - 1)))
                reply: TrieReply | CompareReply = TrieReply(SPACE, (inner,))
            else:
                prefix = question.sections[0].prefix
                one = (clues()[0], *(EMPTY,) * (RADIX - 1))
                reply = CompareReply(SPACE, (Clues(prefix, one),), 1)
            depths.append(len(prefix))
            take(descent, Trie(), reply)

    with pytest.raises(MalformedMessageError):
        go_down()
    assert depths[-1] == REPAIR_DEPTH_MAX


def test_the_rest_of_an_endless_frontier_is_left_to_the_next_repair() -> None:
    """However much differs, only so many prefixes wait; the root tells of the rest."""
    waiting: list[Prefix] = [
        (n >> 12 & 15, n >> 8 & 15, n >> 4 & 15, n & 15) for n in range(1 << 16)
    ]
    descent = ClueDescent(salt=SALT, frontier=waiting * 4)
    trie = Trie.build(IDS)
    question = _question(descent, trie)
    covered, found = compare(trie, SALT, question.sections)
    shown = tuple(Clues(b.prefix, clues()) for b in question.sections)
    descent.take(trie, CompareReply(SPACE, shown, len(question.sections)))
    assert len(descent.frontier) == FRONTIER_MAX
    assert (covered, found) == (len(question.sections), [])
