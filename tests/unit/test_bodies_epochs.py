"""Lists of dead records: one form, each id with where its record stood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import Epoch, Link, RecordId, runs_of
from crdtmerge.codec import Value
from crdtmerge.errors import MalformedRecordError
from crdtmerge.identity import AuthorId
from crdtmerge.record import RECORD_BYTES_MAX, make_record

ONE, TWO, THREE, FOUR = (RecordId(bytes([n]) * 32) for n in (1, 2, 3, 4))
CLEO, CARL = AuthorId(b"c" * 32), AuthorId(b"d" * 32)
GRANT = RecordId(b"g" * 32)


def test_a_chain_is_one_run() -> None:
    """Records that follow each other under one grant cost 32 bytes each, in any order."""
    links = {
        TWO: Link(CLEO, 1, ONE, GRANT),
        ONE: Link(CLEO, 0, b"", GRANT),
        THREE: Link(CLEO, 2, TWO, GRANT),
    }
    (run,) = runs_of(links.items())
    assert (run.first, run.prev, list(run)) == (0, b"", [ONE, TWO, THREE])
    assert [run.link(place) for place in range(3)] == [
        links[record] for record in (ONE, TWO, THREE)
    ]


def test_gaps_branches_and_other_grants_make_other_runs() -> None:
    """What does not follow what is listed before it says itself what it follows."""
    links = {
        ONE: Link(CLEO, 4, FOUR, GRANT),
        TWO: Link(CLEO, 4, FOUR, GRANT),
        THREE: Link(CLEO, 5, ONE, RecordId(b"h" * 32)),
    }
    assert [len(run) for run in runs_of(links.items())] == [1, 1, 1]


ids = st.integers(1, 60).map(lambda n: RecordId(n.to_bytes(32, "big")))
links = st.builds(
    lambda author, number, prev, grant: Link(
        author, number, prev if number else b"", bytes([grant]) * 32
    ),
    st.sampled_from((CLEO, CARL)),
    st.integers(0, 5),
    ids,
    st.integers(1, 2),
)


@given(st.dictionaries(ids, links, min_size=1, max_size=30))
def test_runs_say_of_each_id_what_they_were_made_of(
    said: dict[RecordId, Link],
) -> None:
    """Chains, branches, nonsense: through the bytes of a record and back, in one form."""
    body = Epoch(runs_of(said.items()))
    record = make_record(
        space=ONE, author=CLEO, author_seq=0, prev=b"", auth=GRANT, body=body
    )
    assert record.critical
    assert isinstance(record.body, Epoch)
    runs = record.body.runs
    read = {key: run.link(n) for run in runs for n, key in enumerate(run)}
    assert read == said
    assert len(record.body) == len(said)


def test_a_full_record_lists_two_thousand() -> None:
    """Less than 33 bytes for each of a long chain."""
    chain = [RecordId(n.to_bytes(32, "big")) for n in range(1, 2040)]
    said = {
        key: Link(CLEO, n, chain[n - 1] if n else b"", GRANT)
        for n, key in enumerate(chain)
    }
    body = Epoch(runs_of(said.items()))
    record = make_record(
        space=ONE, author=CLEO, author_seq=0, prev=b"", auth=GRANT, body=body
    )
    assert len(record.data) < RECORD_BYTES_MAX
    assert len(record.data) / len(chain) < 32.3


GOOD: list[Value] = [CLEO, GRANT, [[0, b"", ONE + TWO], [4, FOUR, THREE]]]


def test_the_form_that_the_changes_start_from_is_read() -> None:
    """The refusals below are for the change, not for the rest."""
    assert len(Epoch.from_value([GOOD])) == 3


@pytest.mark.parametrize(
    "value",
    [
        [],
        [[]],
        [[CLEO, GRANT, []]],
        [[CLEO[:31], GRANT, [[0, b"", ONE]]]],
        [[CLEO, GRANT[:31], [[0, b"", ONE]]]],
        [[CLEO, b"", [[0, b"", ONE]]]],
        [[CLEO, GRANT, [[0, b"", b""]]]],
        [[CLEO, GRANT, [[0, b"", ONE[:31]]]]],
        [[CLEO, GRANT, [[0, b"", ONE + b"x"]]]],
        [[CLEO, GRANT, [[0, ONE, TWO]]]],
        [[CLEO, GRANT, [[1, b"", TWO]]]],
        [[CLEO, GRANT, [[1, ONE[:31], TWO]]]],
        [[CLEO, GRANT, [[-1, b"", ONE]]]],
        [[CLEO, GRANT, [[2**63, ONE, TWO]]]],
        [[CLEO, GRANT, [[2**63 - 1, ONE, TWO + THREE]]]],
        [[CLEO, GRANT, [["0", b"", ONE]]]],
        [[CLEO, GRANT, [[0, b"", "1" * 32]]]],
        [[CLEO, GRANT, [[0, b"", ONE, 0]]]],
        [[CLEO, GRANT, [[0, b"", ONE]], 0]],
        [[CLEO, GRANT, [[4, FOUR, THREE], [0, b"", ONE]]]],
        [[CLEO, GRANT, [[0, b"", ONE], [0, b"", ONE]]]],
        [[CLEO, GRANT, [[0, b"", ONE], [1, ONE, TWO]]]],
        [[CLEO, GRANT, [[0, b"", ONE], [2, THREE, ONE]]]],
        [[CLEO, GRANT, [[0, b"", ONE + ONE]]]],
        [[CLEO, GRANT, [[0, b"", ONE]]], [CLEO, GRANT, [[4, FOUR, THREE]]]],
        [[CARL, GRANT, [[0, b"", ONE]]], [CLEO, GRANT, [[0, b"", TWO]]]],
        [[CLEO, GRANT, [[0, b"", ONE]]], [CARL, GRANT, [[0, b"", ONE]]]],
        {"runs": 1},
        7,
    ],
)
def test_list_of_another_form_is_refused(value: Value) -> None:
    """Sorted, whole runs of 32-byte ids, each id once: one list has one form."""
    with pytest.raises(MalformedRecordError):
        Epoch.from_value(value)
