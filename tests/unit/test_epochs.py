"""What is chosen to be listed as dead, and how lists are dealt out to records."""

import pytest

from crdtmerge.bodies import (
    Link,
    NodeAddress,
    RecipeChange,
    RecordId,
    Remove,
    runs_of,
)
from crdtmerge.epochs import (
    AWAITED,
    LAST,
    OWNERS,
    check_unchanged,
    choose,
    dealt,
    epochs_of,
    links_of,
)
from crdtmerge.errors import ConflictError, NotAllowedError
from crdtmerge.identity import AuthorId
from crdtmerge.recipe import Recipe
from crdtmerge.record import RECORD_BYTES_MAX, make_record
from crdtmerge.replica import Replica
from tests.properties.cast import (
    CARL,
    CLEO,
    CONTENTS,
    FAULTS,
    MAINTAINERS,
    Pen,
    unknown,
)
from tests.properties.cast import (
    OWNERS as FOUNDERS,
)

MIA, _ = MAINTAINERS
OLGA, _ = FOUNDERS
X, Y, FAULTY = CONTENTS[:3]


@pytest.fixture(name="pen")
def fixture_pen() -> Pen:
    """A members space with its cast."""
    return Pen.start()


def test_what_was_removed_goes_with_its_remove(pen: Pen) -> None:
    """Both; what is live, and the last that somebody said, stays."""
    first, second = pen.add(CLEO, X), pen.add(CLEO, Y)
    remove = pen.remove(CLEO, first)
    last = pen.add(CLEO, X)
    choice = choose(pen.opset())
    assert choice.removed == {first}
    assert choice.removes == {remove}
    assert not choice.records & {second, last}


def test_the_last_record_of_an_author_stays(pen: Pen) -> None:
    """Its number must be known, though what it says has no effect."""
    gone = pen.add(CLEO, X)
    pen.remove(MIA, gone)
    choice = choose(pen.opset())
    assert not choice.records
    assert choice.kept[LAST] == 1


def test_a_remove_stays_until_all_that_it_names_is_here(pen: Pen) -> None:
    """Else the add that comes late would be visible, as if nobody had removed it."""
    first, late = pen.add(CARL, X), pen.add(CLEO, Y)
    for author in (CARL, CLEO):
        pen.write(author, unknown())
    pen.remove(MIA, first, late)
    pen.write(MIA, unknown())
    without = pen.opset(without=[late])
    choice = choose(without)
    assert choice.removed == {first}
    assert not choice.removes
    assert choice.kept[AWAITED] == 1
    assert choose(pen.opset()).removes


def test_what_owners_said_stays(pen: Pen) -> None:
    """No list can kill it, so none names it."""
    gone = pen.add(OLGA, X)
    pen.remove(OLGA, gone)
    pen.write(OLGA, unknown())
    choice = choose(pen.opset())
    assert not choice.records
    assert choice.kept[OWNERS] == 1


def test_what_is_faulty_goes_and_the_fault_stays(pen: Pen) -> None:
    """A fault shows for ever that its content cannot be merged."""
    add = pen.add(CLEO, CONTENTS[2])
    pen.write(CLEO, FAULTS[0])
    assert choose(pen.opset()).records == {add}


def test_replaced_recipes_and_nodes_said_anew_go(pen: Pen) -> None:
    """Of recipes those that hold back no other one."""
    first = pen.write(MIA, RecipeChange(Recipe("linear/1"), ())).record.id
    second = pen.write(MIA, RecipeChange(Recipe("ties/1"), (first,))).record.id
    third = pen.write(MIA, RecipeChange(Recipe("linear/1"), (second,))).record.id
    node = b"\x05" * 32
    old = pen.write(CARL, NodeAddress(node, ("host:1",))).record.id
    new = pen.write(CARL, NodeAddress(node, ("host:2",))).record.id
    choice = choose(pen.opset())
    assert choice.replaced == {first, second}
    assert choice.renamed == {old}
    assert not choice.records & {third, new}
    late = choose(pen.opset(without=[first]))
    assert not late.replaced  # the first may come: only the second says that it is old


def test_in_an_open_space_the_use_of_the_right_to_contribute_stays() -> None:
    """Who contributed under genesis has a rank for it."""
    pen = Pen.start("open")
    del pen.grants[CLEO.public]
    gone = [pen.add(CLEO, X), pen.add(CLEO, X)]
    pen.remove(MIA, *gone)
    pen.admit(MIA, CLEO, 1)  # type: ignore[arg-type]
    pen.write(CLEO, unknown())
    assert choose(pen.opset()).removed == {gone[0]}


def test_an_owner_signs_the_lists(pen: Pen) -> None:
    """One after another; nobody else may."""
    gone = pen.add(CLEO, X)
    pen.remove(CLEO, gone)
    pen.add(CLEO, Y)
    opset = pen.opset()
    lists = epochs_of(opset, choose(opset).records)
    with pytest.raises(NotAllowedError):
        Replica(opset, MIA).compact(lists)
    made = Replica(opset, OLGA).compact(lists)
    assert set(opset.signed) - set(opset.insert(made).signed) == choose(opset).records


def test_what_would_change_the_space_is_not_signed(pen: Pen) -> None:
    """A list of something live is refused, whoever asks for it."""
    live = pen.add(CLEO, X)
    opset = pen.opset()
    with pytest.raises(ConflictError, match="would change: visible"):
        check_unchanged(opset, epochs_of(opset, {live}))


def test_lists_that_are_too_long_are_parted() -> None:
    """Each fits into one record, and together they say what was to be said."""
    author, grant = AuthorId(b"c" * 32), b"g" * 32
    chain = [RecordId(n.to_bytes(32, "big")) for n in range(1, 5001)]
    said = {
        key: Link(author, n, chain[n - 1] if n else b"", grant)
        for n, key in enumerate(chain)
        if n % 900
    }
    parts = list(dealt(runs_of(said.items())))
    records = [
        make_record(
            space=b"s" * 32, author=author, author_seq=0, prev=b"", auth=grant, body=e
        )
        for e in parts
    ]
    assert len(records) == 3
    assert max(len(record.data) for record in records) > RECORD_BYTES_MAX - 2048
    assert {k: link for e in parts for k, link in links_of(e)} == said


def test_a_remove_of_unknown_kind_of_target_is_idle(pen: Pen) -> None:
    """One that names no add at all took nothing out; it stays until that is dead."""
    pen.write(CLEO, Remove((RecordId(b"\x01" * 32),)))
    pen.write(CLEO, unknown())
    assert not choose(pen.opset()).records
