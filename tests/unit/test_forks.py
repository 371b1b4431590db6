"""Fork proofs: what they show and how they are made. False ones: tests/attacks."""

import itertools
from typing import Final

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import Body, RecipeChange, Unknown
from crdtmerge.codec import decode, encode
from crdtmerge.errors import BadSignatureError, MalformedProofError
from crdtmerge.forks import BRANCH_BYTES_MAX, Fork, check_fork, prove_fork
from crdtmerge.proofs import LEAF_BYTES
from crdtmerge.recipe import Recipe, Rule
from crdtmerge.record import (
    RECORD_BYTES_MAX,
    Record,
    SignedRecord,
    make_record,
    sign_record,
)
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    OWNERS,
    Pen,
    add_of,
    fork_of,
    genesis,
    unknown,
    write,
)

PEN: Final = Pen.start()
SPACE: Final = PEN.genesis.record.space_id
GRANT: Final = PEN.grants[CLEO.public]
FIRST: Final = write(CLEO, GRANT, add_of(CONTENTS[0]))


def record_of(size: int, mark: int, seq: int = 5) -> SignedRecord:
    """Return a record of `size` bytes whose last one is `mark`."""

    def signed(body: Body) -> SignedRecord:
        return write(CLEO, GRANT, body, after=FIRST.record, seq=seq)

    taken = len(signed(Unknown("census", bytes(300))).record.data) - 300
    room = size - taken
    # The header of a byte string has another length below 256 bytes.
    filled = bytes([mark]) * (room if room > 255 else room + 1)
    made = signed(Unknown("census", filled))
    assert len(made.record.data) == size
    return made


def large_recipe(mark: str, rules: int) -> RecipeChange:
    """Return a recipe of many rules, each for a tensor with a long name."""
    made = tuple(
        Rule(f"name:{mark}.{n}.{'w' * 230}", (("weight", "0.5"),)) for n in range(rules)
    )
    return RecipeChange(Recipe("linear/1", rules=made), ())


def arrived(fork: Fork) -> Fork:
    """Return what a peer makes of a fork's bytes, checked."""
    read = Fork.from_value(decode(encode(fork.to_value()), RECORD_BYTES_MAX))
    check_fork.cache_clear()
    check_fork(read, SPACE)
    return read


@pytest.mark.parametrize(
    ("one", "other"),
    list(
        itertools.combinations_with_replacement(
            (200, 1023, 1024, 1025, 2048, 2049, 40_001, RECORD_BYTES_MAX), 2
        )
    ),
)
def test_two_records_of_any_size_are_a_fork(one: int, other: int) -> None:
    """Up to 64 KiB each; the ids are those that the library of digests gives."""
    pair = [record_of(one, 1), record_of(other, 2)]
    fork = arrived(fork_of(*pair))
    assert (fork.author, fork.author_seq) == (CLEO.public, 5)
    context = "crdtmerge v1 record id"
    ids = sorted(
        blake3(s.record.data, derive_key_context=context).digest() for s in pair
    )
    assert [branch.id for branch in fork.branches] == ids


def test_large_recipes_are_a_fork() -> None:
    """Two that would not fit into one record beside each other: 5 KB show them."""
    pair = [
        write(OWNERS[1], PEN.genesis.record, large_recipe(mark, 254)) for mark in "ab"
    ]
    assert sum(len(s.record.data) for s in pair) > 1.9 * RECORD_BYTES_MAX
    fork = arrived(fork_of(*pair))
    assert 4000 < len(encode(fork.to_value())) < 5000
    said = write(CLEO, GRANT, unknown())
    assert len(said.record.data) + 5000 < RECORD_BYTES_MAX


def test_a_fork_of_small_records_holds_them_whole() -> None:
    """A record below 1 KiB is one leaf, so the proof is about as long as the two."""
    pair = [write(CLEO, GRANT, add_of(content)) for content in CONTENTS[:2]]
    size = len(encode(arrived(fork_of(*pair)).to_value()))
    assert size < sum(len(s.record.data) for s in pair) + 300


def test_the_order_of_the_two_does_not_matter() -> None:
    """One pair has one proof."""
    pair = [write(CLEO, GRANT, add_of(content)) for content in CONTENTS[:2]]
    assert fork_of(*pair) == fork_of(*reversed(pair))


def test_a_genesis_and_another_first_record_are_a_fork() -> None:
    """A genesis names no space, and is a record of its own."""
    other = write(OWNERS[0], PEN.genesis.record, add_of(CONTENTS[0]), seq=0)
    fork = arrived(fork_of(PEN.genesis, other))
    assert (fork.author, fork.author_seq) == (OWNERS[0].public, 0)


def test_founding_two_spaces_is_no_fork() -> None:
    """Numbers are counted in each space by themselves."""
    other = genesis("open", b"m" * 16)
    for space in (SPACE, other.record.space_id):
        with pytest.raises(MalformedProofError):
            prove_fork(
                space,
                OWNERS[0].public,
                0,
                [(s.record.data, s.signature) for s in (PEN.genesis, other)],
            )


def test_an_inadmissible_record_is_a_branch_too() -> None:
    """That its author signed it is what counts: here it names no grant of its own."""
    stray = write(CLEO, PEN.grants[CARL.public], add_of(CONTENTS[1]))
    assert arrived(fork_of(FIRST, stray)).author == CLEO.public


KEYS: Final = (CLEO, CARL)
GENESES: Final = (PEN.genesis.record, genesis("open", b"o" * 16).record)


@st.composite
def signed_records(draw: st.DrawFn) -> SignedRecord:
    """Draw a record of a few authors, spaces, numbers and sizes, so that some meet."""
    author = draw(st.sampled_from(KEYS))
    number = draw(st.sampled_from((0, 1, 127, 128, 2**31, 2**63 - 1)))
    home = draw(st.sampled_from(GENESES))
    size = draw(st.sampled_from((1, 900, 1100, 3000)))
    record = make_record(
        space=home.id,
        author=author.public,
        author_seq=number,
        prev=bytes(32) if number else b"",
        auth=home.id,
        body=Unknown("census", bytes([draw(st.integers(0, 1))]) * size),
    )
    return sign_record(record, author)


@given(signed_records(), signed_records(), st.sampled_from(GENESES), st.booleans())
def test_two_records_are_a_fork_if_and_only_if_their_fields_say_so(
    one: SignedRecord, other: SignedRecord, home: Record, same: bool
) -> None:
    """The whole records, decoded, are the oracle of what their beginnings show."""
    if same:  # else two rarely have all in common
        fields = one.record
        key = next(k for k in KEYS if k.public == fields.author)
        body = other.record.body
        other = sign_record(
            make_record(
                space=fields.space,
                author=fields.author,
                author_seq=fields.author_seq,
                prev=fields.prev,
                auth=fields.auth,
                body=body,
            ),
            key,
        )
        home = next(g for g in GENESES if g.id == fields.space)
    read = [decode(s.record.data, RECORD_BYTES_MAX) for s in (one, other)]
    assert isinstance(read[0], list)
    assert isinstance(read[1], list)
    alike = read[0][1:4] == read[1][1:4] and read[0][1] == home.id
    signed = [(s.record.data, s.signature) for s in (one, other)]
    author, number = one.record.author, one.record.author_seq
    try:
        fork = prove_fork(home.id, author, number, signed)
    except (MalformedProofError, BadSignatureError):
        assert not alike or one.record.id == other.record.id
    else:
        assert alike
        assert one.record.id != other.record.id
        assert (fork.author, fork.author_seq) == (author, number)


def test_a_check_costs_no_more_than_is_stated() -> None:
    """Of the longest fork: four leaves and two paths of ten values; and once, not twice."""
    fork = fork_of(record_of(RECORD_BYTES_MAX, 1), record_of(RECORD_BYTES_MAX, 2))
    check_fork.cache_clear()
    check_fork(fork, SPACE)
    check_fork(fork, SPACE)
    assert check_fork.cache_info().misses == 1
    for branch in fork.branches:
        assert len(branch.head.leaves) <= 2 * LEAF_BYTES
        assert len(branch.head.siblings) <= 10 * 32
    assert BRANCH_BYTES_MAX == RECORD_BYTES_MAX
