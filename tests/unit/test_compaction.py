"""A home whose space is compacted: what goes from its disk, what it serves and is told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.bodies import Epoch, RecordId, runs_of
from crdtmerge.errors import NotAllowedError, NotFoundError
from crdtmerge.identity import SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import link_of
from crdtmerge.record import SignedRecord
from crdtmerge.sync.messages import SignedBytes
from nodes.batches import Compacted
from nodes.compaction import Compactions, Gone
from nodes.home import Home, create_home, open_home
from nodes.operations.verbs import Operations
from nodes.spaces import Spaces
from nodes.store.memory import MemoryRecords
from tests.homes import Run
from tests.properties.cast import CLEO, CONTENTS, OWNERS, Pen, unknown

OLGA, OMAR = OWNERS
X, Y = CONTENTS[:2]


def home_of(folder: Path, author: SigningKey) -> Home:
    """Return a new home of an author of the cast."""
    return create_home(
        folder, author_seed=author.seed, node_seed=b"n" * 32, generation=b"g" * 16
    )


def compaction(pen: Pen, *ids: RecordId) -> SignedRecord:
    """Let an owner list these records."""
    body = Epoch(runs_of((i, link_of(pen.known[i].record)) for i in ids))
    return pen.write(OLGA, body)


class Life:
    """A space with two removed contributions of one author, and one that is live."""

    def __init__(self) -> None:
        self.pen = Pen.start()
        self.gone = [self.pen.add(CLEO, X), self.pen.add(CLEO, X)]
        self.remove = self.pen.remove(CLEO, *self.gone)
        self.live = self.pen.add(CLEO, Y)
        self.before = list(self.pen.known.values())
        self.epoch = compaction(self.pen, *self.gone, self.remove)
        self.dead = {*self.gone, self.remove}

    @property
    def space(self) -> bytes:
        """The space's id."""
        return self.pen.genesis.record.space_id


@pytest.fixture(name="life")
def fixture_life() -> Life:
    """A space before and after it was compacted."""
    return Life()


def raw(*signed: SignedRecord) -> list[SignedBytes]:
    """Return records as they travel."""
    return [SignedBytes(s.record.data, s.signature) for s in signed]


@pytest.fixture(name="sets", params=["memory", "disk"])
def fixture_sets(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spaces]:
    """Sets in either store."""
    with home_of(tmp_path / "home", CLEO) as home:
        memory = MemoryRecords(b"g" * 16)
        yield Spaces(memory if request.param == "memory" else home.records, home.blobs)


def test_the_dead_go_from_set_store_and_feed(sets: Spaces, life: Life) -> None:
    """Roots, feed and fetch are those of who never held them, and the feed passes gaps."""
    space = life.pen.opset().space
    sets.commit(space, life.before)
    sets.commit(space, [life.epoch])
    opset = sets.opset(space)
    assert set(opset.signed) == life.pen.known.keys() - life.dead
    assert opset.root == life.pen.opset().root == sets.heartbeat(space).root
    assert set(sets.records.load(space)) == set(opset.signed.values())
    reply = sets.feed(space, 0)
    assert {r.data for r in reply.records} == {
        s.record.data for s in opset.signed.values()
    }
    assert (reply.through, reply.more) == (sets.heartbeat(space).sequence, False)
    asked = sorted({*life.gone, life.live})
    fetched = sets.fetch(space, asked)
    assert set(fetched.unsent) == set(life.gone)
    assert sets.said(CLEO.public) == 1


def test_numbers_of_the_feed_go_on_after_the_dead(sets: Spaces, life: Life) -> None:
    """Who has read up to a record that is gone hears of all that came since."""
    space = life.pen.opset().space
    sets.commit(space, life.before)
    read = sets.heartbeat(space).sequence
    sets.commit(space, [life.epoch])
    later = life.pen.write(CLEO, unknown())
    sets.commit(space, [later])
    reply = sets.feed(space, read)
    assert {r.data for r in reply.records} == {
        life.epoch.record.data,
        later.record.data,
    }


def test_what_is_dead_costs_no_signature(sets: Spaces, life: Life) -> None:
    """It is dropped before it is verified: a wrong signature is not even noticed."""
    space = life.pen.opset().space
    sets.commit(space, [*life.before, life.epoch])
    root = sets.opset(space).root
    dead = [SignedBytes(life.pen.known[i].record.data, bytes(64)) for i in life.dead]
    assert sets.receive(space, dead) == ()
    assert sets.opset(space).root == root


def test_the_dead_may_come_with_what_kills_them(sets: Spaces, life: Life) -> None:
    """In one batch, in any order: only what lives is new."""
    space = life.pen.opset().space
    sets.commit(space, life.before[:1])
    fresh = sets.receive(space, raw(*life.before[1:], life.epoch))
    assert {*fresh, space} == life.pen.known.keys() - life.dead


def test_a_home_is_told_what_went(tmp_path: Path, life: Life) -> None:
    """Once, with its own; also after the home was opened again."""
    space = life.pen.opset().space
    home = home_of(tmp_path / "home", CLEO)
    heard: list[Compacted] = []
    sets = Spaces(home.records, home.blobs)
    sets.author = CLEO.public
    sets.on_compacted = lambda _, news: heard.append(news)
    sets.commit(space, life.before)
    sets.commit(space, [life.epoch])
    sets.receive(space, raw(*(life.pen.known[i] for i in life.dead)))
    assert heard == [Compacted(gone=3, own=3, kept=1, lost=())]
    home.close()
    with open_home(tmp_path / "home", write=False) as again:
        opset = Spaces(again.records, again.blobs).opset(space)
        assert opset.root == life.pen.opset().root
        assert len(opset.listing) == 3


def test_a_live_contribution_that_an_owner_lists_is_named(
    tmp_path: Path, life: Life, caplog: pytest.LogCaptureFixture
) -> None:
    """Its author is warned, and may contribute it again."""
    space = life.pen.opset().space
    with home_of(tmp_path / "home", CLEO) as home:
        sets = Spaces(home.records, home.blobs)
        Operations(home, sets, entropy=bytes, run=Run(), live=None, clock=lambda: 0.0)
        sets.commit(space, life.before)
        sets.commit(space, [life.epoch, compaction(life.pen, life.live)])
        gone = Compactions(home.local).gone(space)
        assert gone == Gone(4, 4, (life.live,))
    assert "which nobody had removed" in caplog.text


def test_a_store_of_an_older_version_sheds_the_dead(tmp_path: Path, life: Life) -> None:
    """One that took epochs for an unknown kind kept all: what is dead goes at the next."""
    space = life.pen.opset().space
    with home_of(tmp_path / "home", CLEO) as home:
        home.records.append(space, [*life.before, life.epoch])
        sets = Spaces(home.records, home.blobs)
        assert sets.opset(space).root == life.pen.opset().root
        sets.commit(space, [life.pen.write(CLEO, unknown())])
        assert {s.record.id for s in home.records.load(space)} == set(
            life.pen.opset().signed
        )


# --- the verb ---------------------------------------------------------------------------


def verbs_of(home: Home, opset: OpSet) -> Operations:
    """Return the verbs of a home that takes part in a space."""
    sets = Spaces(home.records, home.blobs)
    verbs = Operations(
        home, sets, entropy=bytes, run=Run(), live=None, clock=lambda: 0.0
    )
    sets.commit(opset.space, list(opset.signed.values()))
    return verbs


def test_an_owner_compacts(tmp_path: Path, life: Life) -> None:
    """What a dry run says is what is done, and a second time there is nothing to do."""
    opset = life.pen.opset(without=[life.epoch.record.id])
    with home_of(tmp_path / "home", OLGA) as home:
        verbs = verbs_of(home, opset)
        dry = verbs.call("space_compact", {"dry_run": True}, lambda _: None)
        assert (dry["listed"], dry["lists"], dry["removes"]) == (3, [], 1)
        assert len(verbs.context.spaces.opset(opset.space)) == len(opset)
        done = verbs.call("space_compact", {}, lambda _: None)
        same = ("listed", "removed_adds", "removes", "kept", "freed_bytes")
        assert {k: done[k] for k in same} == {k: dry[k] for k in same}
        after = verbs.context.spaces.opset(opset.space)
        assert len(after) == len(opset) - 3 + 1
        assert after.view.visible == opset.view.visible
        status: Any = verbs.call("status", {}, lambda _: None)
        assert status["spaces"][0]["compacted"] == {
            "lists": 1,
            "listed": 3,
            "dropped": 3,
            "dropped_own": 0,
            "lost": [],
        }
        listed: Any = verbs.call("log", {}, lambda _: None)["records"]
        (epoch,) = [r for r in listed if r["kind"] == "epoch"]
        assert epoch["says"]["listed"] == 3
        assert epoch["effect"]
        with pytest.raises(NotFoundError, match="nothing to compact"):
            verbs.call("space_compact", {}, lambda _: None)


def test_a_member_cannot_compact(tmp_path: Path, life: Life) -> None:
    """It may look what could go."""
    opset = life.pen.opset(without=[life.epoch.record.id])
    with home_of(tmp_path / "home", CLEO) as home:
        verbs = verbs_of(home, opset)
        assert verbs.call("space_compact", {"dry_run": True}, lambda _: None)["listed"]
        with pytest.raises(NotAllowedError):
            verbs.call("space_compact", {}, lambda _: None)
