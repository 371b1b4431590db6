"""A look at what a space lacks is of bounded length, whatever the space holds."""

import gc
import itertools
from pathlib import Path

import pytest

from crdtmerge.digest import ContentId
from crdtmerge.policy import Visible, showing
from nodes import looking, memory, spaces
from nodes.choices import Part
from nodes.looking import Seen
from nodes.spaces import Spaces
from nodes.upkeep.needs import find_needs
from tests.integration.living import found, homes, offer, tensors
from tests.unit.test_node import Home, author

MANY = 30
FEW = 8


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let limits be such that 30 contributions are very many."""
    monkeypatch.setattr(looking, "LOOKS_MAX", FEW)
    monkeypatch.setattr(spaces, "RECORDS_MAX", FEW)
    monkeypatch.setattr(spaces, "OFFERS_MAX", FEW)


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[ContentId]:
    """Return the list of contributions that were looked at."""
    found: list[ContentId] = []
    part = Spaces._part

    def counted(self: Spaces, visible: Visible, before: Seen) -> object:
        found.append(visible.content)
        return part(self, visible, before)

    monkeypatch.setattr(Spaces, "_part", counted)
    return found


def crowd(home: Home, count: int = MANY) -> None:
    """Let author 1 offer many contributions of which nothing is here."""
    for number in range(count):
        home.say(home.offer(1, b"%d" % number))


def reopened(home: Home) -> Spaces:
    """Return the spaces as the next start finds them: nothing is known yet."""
    return Spaces(home.spaces.records, home.blobs)


def settled(found: Spaces, home: Home) -> list[Part]:
    """Look until something is found to be lacking."""
    return next(parts for _ in range(99) if (parts := found.parts(home.space)))


@pytest.mark.usefixtures("small")
def test_what_is_shown_is_found_a_few_records_at_a_time(
    monkeypatch: pytest.MonkeyPatch, looked: list[ContentId]
) -> None:
    """And nothing is fetched before all is known: the next record may take it back."""
    home = Home(members=1)
    crowd(home)
    again, read = reopened(home), [0]
    take = showing._Step._take

    def counted(self: showing._Step, record: object) -> None:
        read[-1] += 1
        take(self, record)  # type: ignore[arg-type]

    monkeypatch.setattr(showing._Step, "_take", counted)
    while not again.parts(home.space):
        assert not looked
        read.append(0)
    assert max(read) == FEW
    assert sum(read) == len(again.opset(home.space))
    monkeypatch.undo()
    assert again.view(home.space) == home.spaces.view(home.space)


@pytest.mark.usefixtures("small")
def test_what_was_found_survives_records_that_come_meanwhile() -> None:
    """Else a busy space would never know what it shows."""
    home = Home(members=1)
    crowd(home)
    again = reopened(home)
    for number in itertools.count():
        again.parts(home.space)
        if again._shown(home.space)[1]:
            break
        assert number < MANY
        record = home.offer(1, b"more %d" % number)
        home.say(record)
        again.commit(home.space, [record])
    assert again.view(home.space) == home.spaces.view(home.space)


@pytest.mark.usefixtures("small")
def test_a_look_is_at_a_few_contributions_and_comes_to_all(
    looked: list[ContentId],
) -> None:
    """Each in its turn, again and again while it lacks something."""
    home = Home(members=1)
    crowd(home)
    seen: list[ContentId] = []
    for _ in range(2 * MANY):
        looked.clear()
        assert len(home.spaces.parts(home.space)) == len(looked) <= FEW
        seen += looked
    visible = {v.content for v in home.spaces.view(home.space).visible}
    assert set(seen) == visible
    assert min(map(seen.count, visible)) > MANY // FEW


@pytest.mark.usefixtures("small")
def test_who_offers_one_is_not_behind_who_offers_many() -> None:
    """Also where the other adds the same content first, among its many."""
    home = Home(members=2)
    crowd(home)
    for member in (1, 2):
        home.say(home.offer(member, b"shared"))
    found = settled(reopened(home), home)
    assert any(author(2).public in part.authors for part in found)


@pytest.mark.usefixtures("small")
def test_what_is_whole_is_not_looked_at_again(looked: list[ContentId]) -> None:
    """Nor does what is whole of many keep the rest from its turn."""
    home = Home(members=1)
    crowd(home)
    while parts := home.spaces.parts(home.space):
        for blob in (blob for part in parts for blob in part.blobs):
            home.blobs._blobs[blob] = b"x"
        home.spaces._manifests = type(home.spaces._manifests)(home.blobs)
    looked.clear()
    for _ in range(2 * MANY):
        home.spaces.parts(home.space)
    known = home.spaces._seen[home.space]
    assert set(looked).isdisjoint(known.whole)


def beyond_of(found: Spaces, home: Home) -> set[tuple[bool, int]]:
    """Return for each contribution whether its bytes are beyond, by the node's looks."""
    seen: dict[int, bool] = {}
    for _ in range(2 * MANY):
        for part in found.parts(home.space):
            seen[sum(part.blobs.values())] = part.beyond
    return {(beyond, size) for size, beyond in seen.items()}


@pytest.mark.usefixtures("small")
def test_of_very_many_the_bytes_of_an_author_are_bounded_too() -> None:
    """By what is whole, and what this look is at: none fits where one is too large."""
    home = Home(members=1)
    crowd(home)
    again = reopened(home)
    again.author_bytes = 1
    settled(again, home)
    assert {beyond for beyond, _ in beyond_of(again, home)} == {True}
    assert len(again.beyond()) == MANY
    again.author_bytes = 1 << 40
    assert {beyond for beyond, _ in beyond_of(again, home)} == {False}
    assert again.beyond() == frozenset()


def test_what_is_whole_counts_for_its_author_until_it_goes() -> None:
    """A contribution that left the set, or lost a blob, takes no room."""
    home = Home(members=1)
    record = home.offer(1, b"data")
    home.say(record)
    home.blobs.add(b"data")
    home.spaces.parts(home.space)
    used = home.spaces._held.used
    assert used[author(1).public] > 4
    (visible,) = home.spaces.view(home.space).visible
    home.say(home.replica(0).ban("content", visible.content))
    home.spaces.parts(home.space)
    assert home.spaces._held.used[author(1).public] == 0


@pytest.mark.usefixtures("small")
def test_who_asks_what_is_beyond_is_told_of_all() -> None:
    """However many looks that takes: commands wait, the node does not."""
    home = Home(members=1)
    crowd(home)
    again = reopened(home)
    again.author_bytes = 1
    assert len(again.beyond()) == MANY


@pytest.mark.usefixtures("small")
def test_what_finds_needs_can_be_ended(tmp_path: Path) -> None:
    """A node that is told to stop does not wait for a walk over all there is."""

    class _EnoughError(Exception):
        pass

    calls = itertools.count(1)

    def breathe() -> None:
        if next(calls) == 2:
            raise _EnoughError

    with homes(tmp_path, "owner") as (owner,):
        space = found(owner)
        for number in range(MANY):
            owner.records.append(space, [offer(owner, space, tensors(b"%d" % number))])
        again = Spaces(owner.records, owner.blobs)
        with pytest.raises(_EnoughError):
            find_needs(owner, again, breathe)
        assert not again._shown(space)[1]
        assert len(find_needs(owner, again).reasons) == 2 * MANY


def test_a_long_pass_of_the_collector_is_the_last_over_what_it_left() -> None:
    """Short ones change nothing: what dies of it goes."""
    times = iter([0.0, memory.PASS_S / 2, 1.0, 1.0 + 2 * memory.PASS_S])
    listen = memory.pass_once(lambda: next(times))
    gc.callbacks.remove(listen)
    before = gc.get_freeze_count()
    for _ in range(2):
        listen("start", {"generation": 1})
        listen("stop", {"generation": 1})
    for phase in ("start", "stop"):
        listen(phase, {"generation": 2})
    assert gc.get_freeze_count() == before
    for phase in ("start", "stop"):
        listen(phase, {"generation": 2})
    assert gc.get_freeze_count() > before
