"""Rights as users give and take them: grants, revocations, bans and what lifts them.

Every refusal leaves the home as it was.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.errors import (
    BadInputError,
    ConflictError,
    CrdtMergeError,
    MalformedTicketError,
    NotAllowedError,
    NotFoundError,
)
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica
from nodes.operations.publishing import publish_all
from tests.homes import Fleet, snapshot, write_model

STRANGER = "ab" * 32


class Cast:
    """An owner, and members with ranks, in one space; records are shared on demand."""

    def __init__(self, folder: Path, *, alone: bool = False) -> None:
        self.fleet = Fleet.at(folder)
        self.base = write_model(folder / "base", 0)
        self.tunes = [
            write_model(folder / f"t{i}", i, near=self.base) for i in range(1, 5)
        ]
        self.owner = self.fleet.init("owner")
        words = {"name": "digits", "base": self.base, "strategy": "linear"}
        self.call(self.owner, "space_create", **words)
        self.homes = [self.owner]
        if alone:
            return
        self.maintainer = self.join("maintainer")
        self.contributor = self.join("contributor")
        self.share()

    def join(self, rank: str, name: str = "") -> Path:
        """Return a new home whose author has `rank`."""
        home = self.fleet.init(name or rank)
        self.fleet.admit(self.owner, home, self.base, rank)
        self.homes.append(home)
        return home

    def share(self) -> None:
        """Let all homes meet."""
        self.fleet.share(*self.homes)

    def call(self, home: Path, verb: str, **arguments: object) -> Any:
        """Run one verb; its answer must be JSON."""
        return json.loads(json.dumps(self.fleet.call(home, verb, **arguments)))

    def key(self, home: Path) -> str:
        """Return an author's key."""
        return self.fleet.author(home)

    def offers(self, home: Path, index: int) -> Any:
        """Contribute a fine-tune."""
        return self.call(home, "contribute", path=self.tunes[index])

    def visible(self, home: Path) -> set[str]:
        """Return the visible contributions that a home sees."""
        (space,) = self.call(home, "status")["spaces"]
        return {c["content"] for c in space["contributions"]}

    def member(self, home: Path, of: Path) -> Any:
        """Return what `home` is told of the author of `of`."""
        found = self.call(home, "space_members")["members"]
        return next(m for m in found if m["author"] == self.key(of))

    def refused(
        self, home: Path, error: type[CrdtMergeError], verb: str, **arguments: object
    ) -> CrdtMergeError:
        """Check that a verb refuses and changes nothing; return the error."""
        before = snapshot(home)
        with pytest.raises(error) as found:
            self.call(home, verb, **arguments)
        assert snapshot(home) == before
        return found.value


@pytest.fixture
def cast(tmp_path: Path) -> Cast:
    return Cast(tmp_path)


# --- grants ----------------------------------------------------------------------------


def test_a_grant_gives_a_stranger_rights_with_limits(cast: Cast) -> None:
    """A whole key that nobody has seen is enough; the limits are those typed."""
    made = cast.call(
        cast.owner,
        "space_grant",
        author=STRANGER.upper(),
        rank="Contributor",
        weight_cap="2.5",
        records="100",
        bytes="3GiB",
    )
    assert made["new"]
    assert "new to the space" in made["notes"][0]
    found = cast.call(cast.owner, "space_members")["members"]
    (member,) = [m for m in found if m["author"] == STRANGER]
    assert (member["rank"], member["state"]) == ("contributor", "member")
    assert (member["weight_cap"], member["records_max"]) == ("2.5", 100)
    assert member["bytes_max"] == 3 << 30
    assert member["since"] == made["record"]


def test_a_grant_raises_and_the_raised_cap_counts(cast: Cast) -> None:
    """The start of a key is enough for a member; its next add weighs more."""
    heavy = {"path": cast.tunes[0], "weight": "5"}
    first = cast.call(cast.contributor, "contribute", **heavy)
    assert "counts as 1" in first["notes"][0]
    key = cast.key(cast.contributor)
    words = {"author": key[:8], "rank": "contributor", "weight_cap": "5"}
    assert cast.call(cast.owner, "space_grant", **words)["new"]
    cast.share()
    cast.call(cast.contributor, "contribute", **heavy, note="heavier")
    cast.share()
    (space,) = cast.call(cast.owner, "status")["spaces"]
    assert [c["weight"] for c in space["contributions"]] == ["5"]


def test_a_grant_of_what_is_held_signs_nothing(cast: Cast) -> None:
    """Said twice, or with less than is held, it says so and adds no record."""
    key = cast.key(cast.contributor)
    before = snapshot(cast.owner)
    for limits in ({}, {"weight_cap": "0.5"}, {"records": "7", "bytes": "1kB"}):
        words = {"author": key, "rank": "contributor", **limits}
        made = cast.call(cast.owner, "space_grant", **words)
        assert not made["new"]
        assert "already" in made["notes"][0]
        assert made["weight_cap"] == "1"
    assert snapshot(cast.owner) == before


def test_a_maintainers_grant_stays_within_its_own_limits(cast: Cast) -> None:
    """What is left out is never more than the grantor has; more is refused."""
    words = {"rank": "maintainer", "records": "500", "bytes": "2GB"}
    cast.call(cast.owner, "space_grant", author=STRANGER, **words)
    small = cast.fleet.init("small")
    key = cast.key(small)
    cast.call(cast.owner, "space_grant", author=key, **words)
    cast.homes.append(small)
    cast.share()
    other = "cd" * 32
    made = cast.call(small, "space_grant", author=other, rank="contributor")
    assert (made["records_max"], made["bytes_max"]) == (500, 2 * 10**9)
    for more in ({"records": "501"}, {"bytes": "3GB"}, {"weight_cap": "1.5"}):
        words = {"author": "ef" * 32, "rank": "reader", **more}
        error = cast.refused(small, NotAllowedError, "space_grant", **words)
        assert "higher limits than your own" in str(error)


def test_a_limited_maintainer_raises_who_holds_more_elsewhere(cast: Cast) -> None:
    """The contributor's own grant goes on to hold; what is new stays within limits."""
    small = cast.fleet.init("small")
    words = {"author": cast.key(small), "rank": "maintainer", "weight_cap": "5"}
    cast.call(cast.owner, "space_grant", **words, bytes="2GB")
    cast.homes.append(small)
    cast.share()
    raised = {"author": cast.key(cast.contributor), "rank": "contributor"}
    made = cast.call(small, "space_grant", **raised, weight_cap="3")
    assert (made["weight_cap"], made["bytes_max"]) == ("3", 2 * 10**9)


def test_nobody_grants_its_own_rank_or_without_one(cast: Cast) -> None:
    """Maintainers make contributors, owners make maintainers, contributors nobody."""
    words = {"author": STRANGER, "rank": "maintainer"}
    error = cast.refused(cast.maintainer, NotAllowedError, "space_grant", **words)
    assert "rank of owner" in str(error)
    words["rank"] = "contributor"
    cast.call(cast.maintainer, "space_grant", **words)
    words["author"] = "cd" * 32
    error = cast.refused(cast.contributor, NotAllowedError, "space_grant", **words)
    assert "rank of maintainer" in str(error)


def test_nobody_grants_itself(cast: Cast) -> None:
    """Not even less than it has."""
    for who in cast.homes:
        words = {"author": cast.key(who), "rank": "reader"}
        error = cast.refused(who, NotAllowedError, "space_grant", **words)
        assert "yourself" in str(error)


def test_a_grant_does_not_lower(cast: Cast) -> None:
    """Who wants to take rights away is told how."""
    words = {"author": cast.key(cast.maintainer), "rank": "contributor"}
    error = cast.refused(cast.owner, ConflictError, "space_grant", **words)
    assert "space revoke" in error.hint
    words = {"author": cast.key(cast.owner), "rank": "contributor"}
    error = cast.refused(cast.maintainer, ConflictError, "space_grant", **words)
    assert "owner already" in str(error)


GRANTS: list[tuple[dict[str, str], type[CrdtMergeError], str]] = [
    ({"author": "abcdef"}, NotFoundError, "whole key"),
    ({"author": STRANGER[:-1]}, NotFoundError, "whole key"),
    ({"author": "no key"}, BadInputError, "not an id"),
    ({"author": "abc"}, BadInputError, "4 characters"),
    ({"author": "00" * 32}, BadInputError, "anybody could sign"),
    ({"rank": "owner"}, BadInputError, "maintainer"),
    ({"rank": ""}, BadInputError, "no rank"),
    ({"weight_cap": "-1"}, BadInputError, "0 to 1000"),
    ({"weight_cap": "1001"}, BadInputError, "0 to 1000"),
    ({"weight_cap": "1e3"}, BadInputError, "0 to 1000"),
    ({"records": "0"}, BadInputError, "above 0"),
    ({"records": "\u0663"}, BadInputError, "above 0"),
    ({"records": "9" * 30}, BadInputError, "above 0"),
    ({"bytes": "a lot"}, BadInputError, "20GiB"),
    ({"bytes": "0"}, BadInputError, "above 0"),
    ({"bytes": "2TiB"}, BadInputError, "at most"),
]


def test_what_no_grant_can_say_is_bad_input(cast: Cast) -> None:
    """Each is refused with what to type instead."""
    for words, error, said in GRANTS:
        asked = {"author": STRANGER, "rank": "contributor", **words}
        found = cast.refused(cast.owner, error, "space_grant", **asked)
        assert said in f"{found} {found.hint}", words


# --- revocations -----------------------------------------------------------------------


def test_a_revoked_authors_work_stays_and_new_work_does_not_come(cast: Cast) -> None:
    """Others never see it, whatever it signs; itself is told once it knows."""
    first = cast.offers(cast.contributor, 0)["content"]
    cast.share()
    key = cast.key(cast.contributor)
    made = cast.call(cast.owner, "space_revoke", author=key[:8])
    assert (made["new"], made["hidden"]) == (True, 0)
    assert made["kept"] == 2  # its node, its contribution
    late = cast.offers(cast.contributor, 1)["content"]  # it does not know yet
    assert cast.visible(cast.contributor) == {first, late}
    cast.share()
    for home in cast.homes:
        assert cast.visible(home) == {first}
    error = cast.refused(
        cast.contributor, NotAllowedError, "contribute", path=cast.tunes[2]
    )
    assert "revoked" in str(error)
    (space,) = cast.call(cast.contributor, "status")["spaces"]
    assert (space["rank"], space["rightless"]) == ("contributor", True)
    assert "lifted" in error.hint
    found = cast.member(cast.maintainer, cast.contributor)
    assert (found["state"], found["revoked_by"]) == ("revoked", [made["record"]])
    assert (found["contributions"], found["nodes"]) == ([first], [])
    assert (found["records"], found["effective"]) == (3, 2)


def test_a_revocation_from_the_start_leaves_nothing(cast: Cast) -> None:
    """Also after a milder one: the stricter counts, and saying it again does nothing."""
    cast.offers(cast.contributor, 0)
    cast.share()
    key = cast.key(cast.contributor)
    cast.call(cast.owner, "space_revoke", author=key)
    assert len(cast.visible(cast.owner)) == 1
    made = cast.call(cast.maintainer, "space_revoke", author=key, from_start=True)
    assert (made["kept"], made["hidden"], made["accepted"]) == (0, 1, [])
    cast.share()
    assert cast.visible(cast.owner) == set()
    before = snapshot(cast.owner)
    for strict in (True, False):
        again = cast.call(cast.owner, "space_revoke", author=key, from_start=strict)
        assert not again["new"]
        assert again["record"] is None
    assert snapshot(cast.owner) == before


def test_a_revocation_keeps_up_to_the_record_that_is_named(cast: Cast) -> None:
    """The start of an id is enough; later records of the author lose their effect."""
    first = cast.offers(cast.contributor, 0)
    second = cast.offers(cast.contributor, 1)
    cast.share()
    made = cast.call(
        cast.owner,
        "space_revoke",
        author=cast.key(cast.contributor),
        keep=[first["record"][:12]],
    )
    assert made["accepted"] == [first["record"]]
    assert made["hidden"] == 1
    assert cast.visible(cast.owner) == {first["content"]}
    assert second["content"] not in cast.visible(cast.owner)


def test_a_lifted_revocation_brings_everything_back(cast: Cast) -> None:
    """Rights, and what was signed meanwhile; then there is nothing to lift."""
    cast.offers(cast.contributor, 0)
    cast.share()
    key = cast.key(cast.contributor)
    for home in (cast.owner, cast.maintainer):
        cast.call(home, "space_revoke", author=key, from_start=True)
    cast.share()
    lifted = cast.call(cast.owner, "space_revoke_lift", author=key[:6])
    assert (len(lifted["records"]), lifted["shown"]) == (2, 1)
    cast.share()
    assert cast.offers(cast.contributor, 1)["new"]
    error = cast.refused(cast.owner, NotFoundError, "space_revoke_lift", author=key)
    assert "not revoked" in str(error)


def test_a_revocation_is_lifted_by_its_rank_or_above(cast: Cast) -> None:
    """A maintainer cannot undo what an owner did, alone or beside its own."""
    key = cast.key(cast.contributor)
    cast.call(cast.maintainer, "space_revoke", author=key)
    cast.call(cast.owner, "space_revoke", author=key)
    cast.share()
    error = cast.refused(
        cast.maintainer, NotAllowedError, "space_revoke_lift", author=key
    )
    assert "owner" in error.hint


def test_a_grant_does_not_undo_a_revocation_or_ban(cast: Cast) -> None:
    """It would have no effect; the way back is named."""
    key = cast.key(cast.contributor)
    words = {"author": key, "rank": "maintainer"}
    cast.call(cast.owner, "space_revoke", author=key)
    error = cast.refused(cast.owner, NotAllowedError, "space_grant", **words)
    assert "space revoke --lift" in error.hint
    cast.call(cast.owner, "ban", id=key)
    error = cast.refused(cast.owner, NotAllowedError, "space_grant", **words)
    assert "ban --lift" in error.hint
    lifted = cast.call(cast.owner, "space_revoke_lift", author=key)
    assert "banned too" in lifted["notes"][0]


def test_revocations_work_downwards_only(cast: Cast) -> None:
    """Not on equals, not on those above, not on oneself, not without rank."""
    other = cast.join("maintainer", "colleague")
    cast.share()
    for target in (other, cast.owner):
        words = {"author": cast.key(target)}
        error = cast.refused(cast.maintainer, NotAllowedError, "space_revoke", **words)
        assert "lower rank" in str(error)
    for home in (cast.owner, cast.maintainer, cast.contributor):
        words = {"author": cast.key(home)}
        error = cast.refused(home, NotAllowedError, "space_revoke", **words)
        assert "your own" in str(error)
    cast.refused(
        cast.contributor, NotAllowedError, "space_revoke", author=cast.key(other)
    )


def test_what_cannot_be_revoked_is_said(cast: Cast) -> None:
    """Unknown authors, records of others, and contradictions."""
    key = cast.key(cast.contributor)
    mine = cast.offers(cast.owner, 0)["record"]
    error = cast.refused(cast.owner, NotFoundError, "space_revoke", author=STRANGER)
    assert "space members" in error.hint
    error = cast.refused(
        cast.owner, NotFoundError, "space_revoke", author=key, keep=[mine]
    )
    assert "crdtmerge log" in error.hint
    words = {"author": key, "keep": [mine], "from_start": True}
    cast.refused(cast.owner, BadInputError, "space_revoke", **words)


# --- bans ------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["content", "author", "record"])
def test_a_lifted_ban_lets_in_what_it_kept_out(cast: Cast, by: str) -> None:
    """Named by what is banned, or by the record of the ban; by its start."""
    offered = cast.offers(cast.contributor, 0)
    cast.share()
    target = cast.key(cast.contributor) if by == "author" else offered["content"]
    ban = cast.call(cast.maintainer, "ban", id=target)
    assert cast.visible(cast.maintainer) == set()
    named = ban["record"] if by == "record" else target
    lifted = cast.call(cast.maintainer, "ban_lift", id=named[:10])
    assert (lifted["bans"], lifted["shown"]) == ([ban["record"]], 1)
    assert not lifted["still_banned"]
    cast.share()
    assert cast.visible(cast.owner) == {offered["content"]}
    assert cast.offers(cast.contributor, 1)["new"]


def test_every_ban_of_a_target_is_lifted_or_none(cast: Cast) -> None:
    """Concurrent bans stand side by side; one of a higher rank stops the lift."""
    content = cast.offers(cast.contributor, 0)["content"]
    cast.share()
    bans = [cast.call(h, "ban", id=content) for h in (cast.owner, cast.maintainer)]
    cast.share()
    error = cast.refused(cast.maintainer, NotAllowedError, "ban_lift", id=content)
    assert "owner" in error.hint
    one = cast.call(cast.maintainer, "ban_lift", id=bans[1]["record"])
    assert one["still_banned"]
    assert "another ban" in one["notes"][0]
    cast.share()
    both = cast.call(cast.owner, "ban_lift", id=content)
    assert both["bans"] == [bans[0]["record"]]
    assert cast.visible(cast.owner) == {content}
    cast.share()
    again = [cast.call(h, "ban", id=content) for h in (cast.owner, cast.maintainer)]
    cast.share()
    both = cast.call(cast.owner, "ban_lift", id=content)
    assert both["bans"] == sorted(ban["record"] for ban in again)
    assert not both["still_banned"]
    assert cast.visible(cast.owner) == {content}


def test_of_several_records_all_are_published_or_none(cast: Cast) -> None:
    """Each is signed upon the one before; a refusal of the last takes back the first."""

    def announces(replica: Replica) -> SignedRecord:
        return replica.announce(b"\x02" * 32, ())

    def refuses(_: Replica) -> SignedRecord:
        raise NotAllowedError("not this one")

    before = snapshot(cast.owner)
    with cast.fleet.open(cast.owner) as (_, spaces, verbs):
        (space,) = spaces.all()
        with pytest.raises(NotAllowedError):
            publish_all(verbs._context, space, [announces, refuses])
    assert snapshot(cast.owner) == before
    with cast.fleet.open(cast.owner) as (_, spaces, verbs):
        first, second = publish_all(verbs._context, space, [announces, announces])
        assert spaces.opset(space).records[second].prev == first


def test_what_is_not_banned_is_not_lifted(cast: Cast) -> None:
    """A visible contribution, an author, nonsense; and a contributor lifts nothing."""
    content = cast.offers(cast.contributor, 0)["content"]
    cast.share()
    for named in (content, cast.key(cast.contributor), STRANGER):
        error = cast.refused(cast.owner, NotFoundError, "ban_lift", id=named)
        assert "ban that stands" in str(error)
    cast.refused(cast.owner, BadInputError, "ban_lift", id="?")
    cast.call(cast.maintainer, "ban", id=content)
    cast.share()
    cast.refused(cast.contributor, NotAllowedError, "ban_lift", id=content)


def test_an_author_without_records_can_be_banned(cast: Cast) -> None:
    """The start of a key that only a grant names is enough."""
    cast.call(cast.owner, "space_grant", author=STRANGER, rank="contributor")
    cast.share()
    assert cast.call(cast.maintainer, "ban", id=STRANGER[:8])["new"]
    found = cast.call(cast.maintainer, "space_members")["members"]
    (member,) = [m for m in found if m["author"] == STRANGER]
    assert member["state"] == "banned"


# --- members and tickets ---------------------------------------------------------------


def test_members_are_listed_with_the_grant_they_act_under(cast: Cast) -> None:
    """Owners first; an owner's rights come from the genesis."""
    found = cast.call(cast.contributor, "space_members")
    ranks = [(m["rank"], m["you"]) for m in found["members"]]
    assert ranks == [("owner", False), ("maintainer", False), ("contributor", True)]
    owner, _, me = found["members"]
    assert owner["since"] == found["space"]
    assert me["nodes"] == [cast.fleet.node(cast.contributor)]
    assert all(m["state"] == "member" for m in found["members"])


def test_a_revoked_ticket_opens_no_door(cast: Cast) -> None:
    """One, or all of the space; what is no ticket of this home is refused."""
    with cast.fleet.open(cast.owner) as (home, _, _):
        home.local.set_value("join_addresses", b"127.0.0.1:1")
    tickets = [cast.call(cast.owner, "space_ticket")["ticket"] for _ in range(3)]
    one = cast.call(cast.owner, "space_ticket_revoke", ticket=tickets[0])
    assert one["revoked"] == 1
    words = {"ticket": tickets[0]}
    cast.refused(cast.owner, NotFoundError, "space_ticket_revoke", **words)
    cast.refused(cast.maintainer, NotFoundError, "space_ticket_revoke", **words)
    words = {"ticket": tickets[1][:-4]}
    cast.refused(cast.owner, MalformedTicketError, "space_ticket_revoke", **words)
    assert cast.call(cast.owner, "space_ticket_revoke", ticket="all")["revoked"] == 2
    with cast.fleet.open(cast.owner) as (home, spaces, _):
        assert home.local.invites(spaces.all()[0]) == []
    cast.refused(cast.owner, NotFoundError, "space_ticket_revoke", ticket="all")
