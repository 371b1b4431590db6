"""Local facts are kept, replaced and forgotten, each in its own space."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from crdtmerge.bodies import SpaceId
from crdtmerge.digest import BlobId
from nodes.store.base import BaseFacts, PeerFacts
from nodes.store.database import Database
from nodes.store.sqlite import SqliteLocal, SqliteRecords

ONE, TWO = SpaceId(b"1" * 32), SpaceId(b"2" * 32)
BLOB = BlobId(b"b" * 32)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return a new store."""
    database = Database.create(tmp_path / "store.sqlite", bytes(16))
    yield database
    database.close()


@pytest.fixture
def local(database: Database) -> SqliteLocal:
    """Return its local facts."""
    return SqliteLocal(database)


def test_the_base_of_a_space_is_kept_and_replaced(local: SqliteLocal) -> None:
    """Any path comes back as it was given, even one that is not UTF-8."""
    odd = Path("/models/b\udcff se")
    local.set_base(ONE, Path("/old"), BlobId(b"a" * 32))
    local.set_base(ONE, odd, BLOB)
    assert local.base(ONE) == BaseFacts(odd, BLOB)
    assert local.base(TWO) is None


def test_an_invite_opens_its_own_space_until_it_is_revoked(local: SqliteLocal) -> None:
    """A secret of one space is none of another's."""
    local.add_invite(ONE, b"secret")
    local.add_invite(ONE, b"secret")
    local.add_invite(ONE, b"other")
    assert local.has_invite(ONE, b"secret")
    assert not local.has_invite(TWO, b"secret")
    assert local.invites(ONE) == [b"other", b"secret"]
    assert local.revoke_invite(ONE, b"secret")
    assert not local.revoke_invite(ONE, b"secret")
    assert not local.has_invite(ONE, b"secret")
    assert local.invites(ONE) == [b"other"]


def test_the_latest_addresses_of_a_peer_count(local: SqliteLocal) -> None:
    """A later ticket replaces what an earlier one said of the same node."""
    local.add_peer(ONE, b"n" * 32, ["a:1"])
    local.add_peer(ONE, b"m" * 32, [])
    local.add_peer(ONE, b"n" * 32, ["b:2", "c:3"])
    expected = [PeerFacts(b"m" * 32, ()), PeerFacts(b"n" * 32, ("b:2", "c:3"))]
    assert local.peers(ONE) == expected
    assert local.peers(TWO) == []


def test_what_the_user_says_of_a_node_stands_beside_tickets(local: SqliteLocal) -> None:
    """It belongs to no space, is replaced as a whole, and forgotten when it is empty."""
    local.add_peer(ONE, b"n" * 32, ["a:1"])
    local.set_addresses(b"n" * 32, ["b:2"])
    local.set_addresses(b"m" * 32, ["c:3"])
    local.set_addresses(b"n" * 32, ["d:4", "e:5"])
    assert local.peers(ONE) == [PeerFacts(b"n" * 32, ("a:1",))]
    assert local.addresses() == [
        PeerFacts(b"m" * 32, ("c:3",)),
        PeerFacts(b"n" * 32, ("d:4", "e:5")),
    ]
    local.set_addresses(b"n" * 32, [])
    local.set_addresses(b"n" * 32, [])
    assert local.addresses() == [PeerFacts(b"m" * 32, ("c:3",))]
    assert local.peers(ONE) == [PeerFacts(b"n" * 32, ("a:1",))]


def test_a_setting_cannot_reach_the_stores_own(
    database: Database, local: SqliteLocal
) -> None:
    """A caller's key named like one of ours changes nothing of ours."""
    local.set_value("generation", b"mine")
    assert local.get_value("generation") == b"mine"
    assert SqliteRecords(database).generation == bytes(16)
