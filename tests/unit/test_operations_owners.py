"""Spaces of several owners, as users found and run them: what waits, and for whom."""

from pathlib import Path
from typing import Any

import pytest

from crdtmerge.bodies import give_consent
from crdtmerge.errors import BadInputError, NotAllowedError, NotFoundError
from crdtmerge.replica import Replica
from nodes.cli import render, render_members, render_records
from nodes.operations.contents import bringing_in, read_base
from tests.homes import Fleet, snapshot, write_model
from tests.properties.cast import key

STRANGER = "ab" * 32
NEXT = key("next")


class Board:
    """Three homes whose authors own one space; two must sign what an owner does."""

    def __init__(self, folder: Path, *, threshold: int = 2) -> None:
        self.fleet = Fleet.at(folder)
        self.base = write_model(folder / "base", 0)
        self.homes = [self.fleet.init(name) for name in ("anna", "bert", "cora")]
        self.anna, self.bert, self.cora = self.homes
        self.keys = [self.fleet.author(home) for home in self.homes]
        self.founded = self.call(
            self.anna,
            "space_create",
            name="digits",
            base=self.base,
            strategy="linear",
            owners=self.keys[1:],
            threshold=threshold,
        )
        self.share()
        for home in self.homes[1:]:
            self.seat(home)

    def call(self, home: Path, verb: str, **arguments: object) -> Any:
        """Run one verb."""
        return self.fleet.call(home, verb, **arguments)

    def share(self) -> None:
        """Let all homes meet."""
        self.fleet.share(*self.homes)

    def seat(self, home: Path) -> None:
        """Give a home its copy of the base: its author needs no grant."""
        with self.fleet.open(home) as (opened, spaces, verbs):
            context = verbs._context
            with bringing_in(context, lambda _: None, reference=True) as bringing:
                model, _ = read_base(self.base, bringing)
                manifest = bringing.keep(model)
            for space in spaces.all():
                opened.local.set_base(space, self.base, manifest)

    def member(self, rank: str) -> tuple[Path, str]:
        """Return a new home with a rank, given by ANNA alone, and its author."""
        home = self.fleet.init(rank)
        self.fleet.admit(self.anna, home, self.base, rank)
        self.homes.append(home)
        self.share()
        return home, self.fleet.author(home)

    def pending(self, home: Path) -> list[Any]:
        """Return what waits for owners, as a home sees it."""
        return list(self.call(home, "space_pending")["pending"])


@pytest.fixture(name="board")
def fixture_board(tmp_path: Path) -> Board:
    """Three owners, two of whom sign."""
    return Board(tmp_path)


def test_a_space_is_founded_with_its_owners(board: Board) -> None:
    """Who owns it, and how many sign, is told and stands in the genesis."""
    assert board.founded["owners"] == sorted(board.keys)
    assert board.founded["threshold"] == 2
    (line,) = [x for x in render.founded(board.founded) if "owners" in x]
    assert "2 of them sign what an owner does" in line
    members = board.call(board.bert, "space_members")["members"]
    assert {m["author"] for m in members if m["rank"] == "owner"} == set(board.keys)
    first = board.call(board.bert, "log", limit=100)["records"][0]
    assert first["says"]["threshold"] == 2
    assert first["says"]["owners"] == sorted(board.keys)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"owners": ["abcd"]}, "no author's key"),
        ({"owners": ["00" * 32]}, "anybody could sign"),
        ({"threshold": 2}, "2 owners must sign, and the space has 1"),
        ({"owners": [STRANGER], "threshold": 3}, "3 owners must sign"),
        ({"threshold": 0}, "whole number"),
    ],
)
def test_owners_and_threshold_are_checked(
    tmp_path: Path, wrong: dict[str, object], match: str
) -> None:
    """A slip leaves the home as it was."""
    fleet = Fleet.at(tmp_path)
    home, base = fleet.init("home"), write_model(tmp_path / "base", 0)
    before = snapshot(home)
    words = {"name": "digits", "base": base, "strategy": "linear", **wrong}
    with pytest.raises(BadInputError, match=match):
        fleet.call(home, "space_create", **words)
    assert snapshot(home) == before


def test_a_sole_owner_is_told_to_keep_a_spare_key(tmp_path: Path) -> None:
    """Nobody can replace its key; with two owners neither can alone."""
    fleet, base = Fleet.at(tmp_path), write_model(tmp_path / "base", 0)
    alone, pair = fleet.init("alone"), fleet.init("pair")
    words = {"name": "digits", "base": base, "strategy": "linear"}
    sole = fleet.call(alone, "space_create", **words)
    assert "key spare" in str(sole["notes"])
    two = fleet.call(pair, "space_create", **words, owners=[STRANGER])
    assert "two owners" in str(two["notes"])


def test_a_grant_of_a_maintainer_waits_and_is_approved(board: Board) -> None:
    """Who made it, and who must sign, hear so; once signed it has effect."""
    made = board.call(board.anna, "space_grant", author=STRANGER, rank="maintainer")
    assert made["pending"]
    assert any("1 of 2 owners signed it" in note for note in made["notes"])
    assert render_members.granted(made)[0].startswith("proposed: ")
    (status,) = board.call(board.anna, "status")["spaces"]
    assert status["pending"] == 1
    board.share()
    (waits,) = board.pending(board.bert)
    assert (waits["record"], waits["kind"]) == (made["record"], "grant")
    assert (waits["signed"], waits["needed"]) == ([board.keys[0]], 2)
    assert waits["yours"]
    assert not board.pending(board.anna)[0]["yours"]
    lines = render_members.pending(board.call(board.bert, "space_pending"))
    assert "3 owners; 2 sign what an owner does, 2 what is done to one" in lines[0]
    assert "1 of 2 owners signed" in lines[1]
    short = made["record"][:12]
    assert f"; not {' '.join(key[:12] for key in sorted(board.keys[1:]))}" in lines[1]
    assert lines[1].endswith(f"waits for you: `crdtmerge space approve {short}`")
    assert lines[1] in render_members.members(board.call(board.bert, "space_members"))
    before = snapshot(board.bert)
    for home, wrong in ((board.anna, "signed"), (board.bert, None)):
        if wrong:
            with pytest.raises(NotAllowedError, match=wrong):
                board.call(home, "space_approve", id=made["record"])
            continue
        answer = board.call(home, "space_approve", id=made["record"][:10])
        assert (answer["signed"], answer["needed"]) == (2, 2)
        assert not answer["pending"]
        assert render_members.approved(answer)[0].endswith("it has effect")
    assert snapshot(board.bert) != before
    board.share()
    assert not board.pending(board.cora)
    members = board.call(board.cora, "space_members")["members"]
    assert [m["rank"] for m in members if m["author"] == STRANGER] == ["maintainer"]
    with pytest.raises(NotAllowedError, match="waits for no"):
        board.call(board.cora, "space_approve", id=made["record"])
    with pytest.raises(NotFoundError):
        board.call(board.cora, "space_approve", id="abcdef")


def test_a_contributor_needs_one_owner(board: Board) -> None:
    """One owner alone acts as a maintainer; nothing waits."""
    made = board.call(board.bert, "space_grant", author=STRANGER, rank="contributor")
    assert not made["pending"]
    assert not board.pending(board.bert)


def test_a_ban_of_a_maintainer_waits(board: Board) -> None:
    """So does a revocation; each says so, and the log too."""
    made = board.call(board.anna, "space_grant", author=STRANGER, rank="maintainer")
    board.share()
    board.call(board.bert, "space_approve", id=made["record"])
    board.share()
    ban = board.call(board.anna, "ban", id=STRANGER)
    revoke = board.call(board.anna, "space_revoke", author=STRANGER)
    assert ban["pending"]
    assert revoke["pending"]
    assert render.banned(ban)[0].startswith("proposed to ban")
    again = board.call(board.anna, "ban", id=STRANGER)
    assert not any("banned already" in note for note in again["notes"])
    assert render_members.revoked(revoke)[0].startswith("proposed to revoke")
    states = {
        r["record"]: r["state"]
        for r in board.call(board.anna, "log", limit=100)["records"]
    }
    assert states[ban["record"]] == "waits: 1 of 2 owners signed"
    (status,) = board.call(board.anna, "status")["spaces"]
    assert not status["banned"]  # nobody is, yet
    board.share()
    board.call(board.cora, "space_approve", id=ban["record"])
    members = board.call(board.cora, "space_members")["members"]
    assert [m["state"] for m in members if m["author"] == STRANGER] == ["banned"]
    (status,) = board.call(board.cora, "status")["spaces"]
    assert [b["target"] for b in status["banned"]] == [STRANGER]
    lift = board.call(board.cora, "ban_lift", id=STRANGER)
    assert lift["pending"] == lift["records"]
    assert lift["still_banned"]


def test_what_one_owner_removes_of_a_maintainer_waits(
    board: Board, tmp_path: Path
) -> None:
    """It says so, and does not claim that the model is gone."""
    home, author = board.member("contributor")
    made = board.call(board.anna, "space_grant", author=author, rank="maintainer")
    board.share()
    board.call(board.bert, "space_approve", id=made["record"])
    board.share()
    model = write_model(tmp_path / "model", 1, near=board.base)
    content = board.call(home, "contribute", path=model)["content"]
    board.share()
    removed = board.call(board.anna, "remove", id=content)
    assert removed["pending"]
    assert removed["still_visible"]
    assert render.removed(removed)[0].startswith("proposed to remove")
    assert any("space approve" in note for note in removed["notes"])
    own = board.call(home, "remove", id=content)
    assert not own["pending"]
    assert render.removed(own)[0].startswith("removed ")


def test_who_left_is_said_to_have_left(board: Board) -> None:
    """Neither revoked nor ended by another: in `status`, `space members` and `log`."""
    home, author = board.member("contributor")
    before = board.call(home, "status")["spaces"][0]
    assert not before["left"]
    left = board.call(home, "space_leave")
    board.share()
    status = board.call(home, "status")
    assert status["spaces"][0]["left"]
    assert "you left it" in "\n".join(render.status(status))
    members = board.call(board.anna, "space_members")["members"]
    assert {m["author"]: m["state"] for m in members}[author] == "left"
    records = board.call(board.anna, "log", limit=100)["records"]
    (leaving,) = [r for r in records if r["record"] == left["record"]]
    assert render_records.words_of(leaving) == "leaves the space"


def test_owners_that_leave_too_few_are_told(board: Board) -> None:
    """With two of three left, two can sign; with one left nobody can."""
    first = board.call(board.anna, "space_leave")
    assert not any("must sign" in note for note in first["notes"])
    board.share()
    second = board.call(board.bert, "space_leave")
    assert any("owners that stay: 1, and 2 must sign" in n for n in second["notes"])


def test_owners_judge_one_of_them_together(board: Board) -> None:
    """A ban of an owner needs most of them; then its acts are gone."""
    ban = board.call(board.anna, "ban", id=board.keys[2])
    assert ban["pending"]
    board.share()
    board.call(board.bert, "space_approve", id=ban["record"])
    board.share()
    members = board.call(board.cora, "space_members")["members"]
    assert [m["state"] for m in members if m["author"] == board.keys[2]] == ["banned"]
    with pytest.raises(NotAllowedError, match="banned from this space"):
        board.call(board.cora, "space_grant", author=STRANGER, rank="reader")


def test_a_maintainer_approves_nothing(board: Board) -> None:
    """It hears what it lacks, and nothing is signed."""
    home, _ = board.member("contributor")
    made = board.call(board.anna, "space_grant", author=STRANGER, rank="maintainer")
    board.share()
    before = snapshot(home)
    with pytest.raises(NotAllowedError, match="rank of owner"):
        board.call(home, "space_approve", id=made["record"])
    assert snapshot(home) == before


def test_a_revocation_names_the_heads_of_all_keys(board: Board) -> None:
    """An author that rotated loses its rights, and keeps what it added by each key."""
    home, old = board.member("contributor")
    with board.fleet.open(home) as (opened, spaces, _):
        (space,) = spaces.all()
        consent = give_consent(NEXT, space, opened.author.public)
        named = Replica(spaces.opset(space), opened.author).name_successor(
            NEXT.public, consent
        )
        spaces.commit(space, [named])
        add = Replica(spaces.opset(space), NEXT).announce(b"\x07" * 32, ())
        spaces.commit(space, [add])
    board.share()
    made = board.call(board.anna, "space_revoke", author=old)
    assert set(made["accepted"]) == {named.record.id.hex(), add.record.id.hex()}
    assert made["kept"] == 3  # its node, the naming, and what the next key said
    members = board.call(board.anna, "space_members")["members"]
    both = [m for m in members if m["author"] in {old, NEXT.public.hex()}]
    assert [m["state"] for m in both] == ["revoked", "revoked"]
    assert {tuple(m["keys"]) for m in both} == {(old, NEXT.public.hex())}
    log = board.call(board.anna, "log", limit=100)
    (line,) = [x for x in render_records.log(log) if " successor " in x]
    assert f"{NEXT.public.hex()[:12]} follows {old[:12]}" in line


def test_the_log_tells_of_approvals_and_successions(board: Board) -> None:
    """Each kind has its words, and says whether it has effect."""
    made = board.call(board.anna, "space_grant", author=STRANGER, rank="maintainer")
    board.share()
    signed = board.call(board.bert, "space_approve", id=made["record"])
    log = board.call(board.bert, "log", limit=100)
    states = {r["record"]: r["state"] for r in log["records"]}
    assert states[signed["record"]] == "in effect"
    assert states[made["record"]] == "in effect"
    (line,) = [x for x in render_records.log(log) if " approve " in x]
    assert made["record"][:12] in line
