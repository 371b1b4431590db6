"""Keys that follow keys, from the command line: rotated, spared, stolen, recovered."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from crdtmerge.bodies import RecordId, SpaceId
from crdtmerge.errors import (
    BadInputError,
    ConflictError,
    NotAllowedError,
    NotFoundError,
    RestoredError,
)
from crdtmerge.identity import AuthorId, SigningKey
from crdtmerge.orset import OpSet
from crdtmerge.policy import Rank, View
from crdtmerge.record import SignedRecord
from crdtmerge.replica import Replica
from nodes import cli
from nodes.agent import AgentKey
from nodes.cli import key as key_commands
from nodes.home import open_home
from nodes.keys import read_key
from nodes.next_key import NEXT_KEY_FILE
from nodes.operations.succeeding import NAMED_ALREADY
from nodes.passphrase import no_passphrase
from tests.homes import write_model


@dataclass(frozen=True)
class Desk:
    """Somebody at a command line, with a home, a base and a fine-tune."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def run(self, *words: object, home: str = "home") -> tuple[int, Mapping[str, Any]]:
        """Run one command; return its exit code, and the JSON of either stream."""
        self.capsys.readouterr()
        place = ["--home", str(self.folder / home), "--json"]
        code = cli.run([*place, *map(str, words)])
        printed = self.capsys.readouterr()
        answer: Mapping[str, Any] = json.loads(printed.out or printed.err)
        return code, answer

    def done(self, *words: object, home: str = "home") -> Mapping[str, Any]:
        """Run one command that must succeed."""
        code, answer = self.run(*words, home=home)
        assert code == 0, answer
        return answer

    def records(self, home: str = "home") -> list[SignedRecord]:
        """Return the records of the one space of a home."""
        with open_home(self.folder / home, write=False) as opened:
            (space,) = opened.records.spaces()
            return list(opened.records.load(space))

    def view(self, home: str = "home") -> View:
        """Return what they mean."""
        records = self.records(home)
        return OpSet(records[0].record.space_id).insert(records).view

    def author(self, home: str = "home") -> AuthorId:
        """Return who a home signs as."""
        return AuthorId(bytes.fromhex(self.done("whoami", home=home)["author"]))

    def secret(self, name: str = "home/author.key") -> SigningKey:
        """Return the key in a file, as a thief of the file has it."""
        return read_key(self.folder / name, no_passphrase).unlock()


@pytest.fixture(name="desk")
def fixture_desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    """A home that founded a space and contributed to it."""
    made = Desk(tmp_path, capsys)
    write_model(tmp_path / "base", 0)
    write_model(tmp_path / "tune", 1, near=tmp_path / "base")
    made.done("init", "--no-passphrase")
    words = ("space", "create", "s", "--base", tmp_path / "base")
    made.done(*words, "--strategy", "linear")
    made.done("contribute", tmp_path / "tune")
    return made


def stolen(desk: Desk, key: SigningKey, records: list[SignedRecord]) -> SignedRecord:
    """Return what a thief of `key` makes of `records`: it removes the contribution."""
    opset = OpSet(records[0].record.space_id).insert(records)
    (visible,) = opset.view.visible
    return Replica(opset, key).remove(visible.adds)


def test_a_rotated_key_has_what_the_old_one_had(desk: Desk) -> None:
    """Rank, contribution and node; and it can take the old key's contribution back."""
    old, before = desk.author(), desk.view()
    answer = desk.done("key", "rotate")
    new, view = desk.author(), desk.view()
    assert (answer["author"], answer["was"]) == (new.hex(), old.hex())
    assert new != old
    assert view.ranks[new] is Rank.OWNER
    assert view.visible_root == before.visible_root
    assert old in view.rightless
    assert new not in view.rightless
    desk.done("remove", view.visible[0].content.hex())
    assert desk.view().visible == ()


def test_who_stole_the_old_key_says_nothing_any_more(desk: Desk) -> None:
    """Neither after the rotation, nor with a record that pretends to be older."""
    thief, early = desk.secret(), desk.records()
    desk.done("key", "rotate")
    backdated = stolen(desk, thief, early)
    records = desk.records()
    before = desk.view()
    opset = OpSet(before.genesis.space_id).insert([*records, backdated])
    assert backdated.record.id not in opset.view.effective
    assert opset.view.visible_root == before.visible_root


def test_the_old_key_is_gone_from_the_home(desk: Desk) -> None:
    """Its seed lies in no file."""
    seed = desk.secret().seed
    desk.done("key", "rotate")
    for file in (desk.folder / "home").rglob("*"):
        if file.is_file():
            assert seed not in file.read_bytes()
            assert seed.hex().encode() not in file.read_bytes()


class CutError(Exception):
    """The power goes."""


@pytest.mark.parametrize("step", ["_change_to", "take_over", "_retired"])
def test_a_rotation_that_was_cut_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """With the same next key: a key that is named and lost would end the author."""
    old = desk.author()
    place = "nodes.next_key" if step == "take_over" else key_commands.__name__

    def cut(*_: object) -> None:
        raise CutError

    with monkeypatch.context() as patched:
        patched.setattr(f"{place}.{step}", cut)
        code, answer = desk.run("key", "rotate")
    assert (code, answer["error"]["type"]) == (1, "CutError")
    waiting = desk.folder / "home" / NEXT_KEY_FILE
    meant = desk.secret(f"home/{NEXT_KEY_FILE}").public if waiting.exists() else None
    desk.done("key", "rotate")
    view = desk.view()
    assert not waiting.exists()
    assert meant in {None, desk.author()}
    assert view.ranks[desk.author()] is Rank.OWNER
    assert old in view.rightless
    assert len(view.identity(old)) == 2
    assert len(view.visible) == 1


def test_keys_rotate_again_and_again(desk: Desk) -> None:
    """One identity, five keys, the last of which speaks."""
    first = desk.author()
    for _ in range(4):
        desk.done("key", "rotate")
    view = desk.view()
    assert view.identity(first)[-1] == desk.author()
    assert len(view.identity(first)) == 5
    assert len(view.visible) == 1


def test_a_spare_takes_the_place_of_a_stolen_key(desk: Desk) -> None:
    """The thief removed the contribution: `--keep` says from where on it spoke."""
    spare = desk.folder / "spare.key"
    made = desk.done("key", "spare", spare, "--no-passphrase")
    assert spare.stat().st_mode & 0o777 == 0o600
    (named,) = made["named"]
    removal = stolen(desk, desk.secret(), desk.records())
    with open_home(desk.folder / "home", write=True) as home:
        (space,) = home.records.spaces()
        home.records.append(SpaceId(space), [removal])
    assert desk.view().visible == ()
    answer = desk.done("key", "recover", spare, "--keep", named["record"])
    assert answer["author"] == made["key"]
    assert answer["notes"] == [key_commands.TOLD_LATER]
    view = desk.view()
    assert len(view.visible) == 1
    assert RecordId(removal.record.id) not in view.effective


def test_a_spare_opens_a_fresh_home(desk: Desk) -> None:
    """The machine is gone: an archive of the space and the spare are left."""
    spare = desk.folder / "spare.key"
    desk.done("key", "spare", spare, "--no-passphrase")
    old, archive = desk.author(), desk.folder / "s.crdtmerge"
    desk.done("space", "export", "s", archive)
    desk.done("init", "--no-passphrase", home="fresh")
    desk.done("key", "recover", spare, home="fresh")
    words = ("space", "import", archive, "--base", desk.folder / "base")
    desk.done(*words, home="fresh")
    answer = desk.done("key", "recover", home="fresh")
    assert answer["retired"][0]["retired"] == [old.hex()]
    view = desk.view("fresh")
    assert view.ranks[desk.author("fresh")] is Rank.OWNER
    assert old in view.rightless
    assert len(view.visible) == 1


def test_a_key_that_named_a_spare_rotates_to_nothing_else(desk: Desk) -> None:
    """The first one counts: so nothing is made, and the message says what to do."""
    spare = desk.folder / "spare.key"
    desk.done("key", "spare", spare, "--no-passphrase")
    author, records = desk.author(), desk.records()
    code, answer = desk.run("key", "rotate")
    assert code == ConflictError.exit_code
    assert "key recover FILE" in answer["error"]["hint"]
    assert not (desk.folder / "home" / NEXT_KEY_FILE).exists()
    assert (desk.author(), desk.records()) == (author, records)


def test_a_spare_that_is_not_there_is_asked_for(desk: Desk) -> None:
    """It is not the home's own key that is missing."""
    code, answer = desk.run("key", "recover", desk.folder / "none")
    assert code == NotFoundError.exit_code
    assert "no spare key" in answer["error"]["message"]
    assert "key spare" in answer["error"]["hint"]


def test_a_key_that_follows_nothing_is_not_taken_up(desk: Desk) -> None:
    """The home's own key would be lost for it."""
    other = desk.folder / "other"
    desk.done("init", "--no-passphrase", home="other")
    author = desk.author()
    code, answer = desk.run("key", "recover", other / "author.key")
    assert code == ConflictError.exit_code
    assert "does not follow" in answer["error"]["message"]
    assert desk.author() == author


def test_a_spare_is_named_in_spaces_that_came_since(desk: Desk) -> None:
    """Said again with the same file: the same key, where it is not named yet."""
    spare = desk.folder / "spare.key"
    first = desk.done("key", "spare", spare, "--no-passphrase")
    words = ("space", "create", "later", "--base", desk.folder / "base")
    desk.done(*words, "--strategy", "linear")
    again = desk.done("key", "spare", spare)
    assert again["key"] == first["key"]
    assert [space["name"] for space in again["named"]] == ["later"]
    assert not again["made"]
    nothing = desk.done("key", "spare", spare)
    assert nothing["named"] == []
    assert nothing["notes"][0] == NAMED_ALREADY


def test_a_folder_is_no_spare_key(desk: Desk) -> None:
    """Said before anything is made or asked."""
    code, answer = desk.run("key", "spare", desk.folder)
    assert code == BadInputError.exit_code
    assert "is a folder" in answer["error"]["message"]


def test_an_owner_is_named_once(desk: Desk) -> None:
    """Twice would look like two votes."""
    key = "ab" * 32
    words = ("space", "create", "two", "--base", desk.folder / "base")
    code, answer = desk.run(*words, "--owner", key, "--owner", key)
    assert code == BadInputError.exit_code
    assert "named twice" in answer["error"]["message"]


def test_a_copied_home_does_not_rotate(desk: Desk) -> None:
    """What it does not know of its own records could make a fork."""
    shutil.copytree(desk.folder / "home", desk.folder / "copy")
    (desk.folder / "copy").chmod(0o700)
    code, _ = desk.run("key", "rotate", home="copy")
    assert code == RestoredError.exit_code
    assert not (desk.folder / "copy" / NEXT_KEY_FILE).exists()


def test_sealed_keys_stay_sealed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new key opens with the passphrase of the home."""
    secret = desk.folder / "secret"
    secret.write_text("correct horse")
    secret.chmod(0o600)
    desk.done("passphrase", "--new-passphrase-file", secret)
    monkeypatch.setenv("CRDTMERGE_PASSPHRASE_FILE", str(secret))
    old = desk.author()
    desk.done("key", "rotate")
    assert desk.author() != old
    assert (
        (desk.folder / "home" / "author.key")
        .read_bytes()
        .startswith(b"crdtmerge key 1")
    )
    desk.done("remove", desk.view().visible[0].content.hex())


def test_nothing_is_named_where_a_key_cannot_be_named_everywhere(desk: Desk) -> None:
    """A grant of one record is too small for two keys: the other space is not touched."""
    desk.done("init", "--no-passphrase", home="boss")
    words: tuple[object, ...] = ("space", "create", "tight", "--base")
    desk.done(*words, desk.folder / "base", "--strategy", "linear", home="boss")
    me = desk.author().hex()
    words = ("space", "grant", me, "--rank", "contributor", "--records", "1")
    desk.done(*words, home="boss")
    archive, before = desk.folder / "tight.crdtmerge", desk.records()
    desk.done("space", "export", "tight", archive, home="boss")
    desk.done("space", "import", archive, "--base", desk.folder / "base")
    spare = desk.folder / "spare.key"
    for words in (("key", "rotate"), ("key", "spare", spare, "--no-passphrase")):
        code, answer = desk.run(*words)
        assert code == NotAllowedError.exit_code
        assert "'tight'" in answer["error"]["message"]
        assert "too few are left" in answer["error"]["message"]
    assert not spare.exists()
    assert not (desk.folder / "home" / NEXT_KEY_FILE).exists()
    assert desk.author().hex() == me
    with open_home(desk.folder / "home", write=False) as opened:
        kept = opened.records.load(before[0].record.space_id)
        assert {r.record.id for r in kept} == {r.record.id for r in before}


def test_who_leaves_hears_of_the_spare_that_stays(desk: Desk) -> None:
    """A key that was named keeps its rights; and the one that left is granted no more."""
    spare, archive = desk.folder / "spare.key", desk.folder / "s.crdtmerge"
    base = ("--base", desk.folder / "base")
    desk.done("init", "--no-passphrase", home="guest")
    guest = desk.author("guest").hex()
    desk.done("space", "grant", guest, "--rank", "contributor")
    desk.done("space", "export", "s", archive)
    desk.done("space", "import", archive, *base, home="guest")
    named = desk.done("key", "spare", spare, "--no-passphrase", home="guest")["key"]
    notes = desk.done("space", "leave", home="guest")["notes"]
    assert any(named[:12] in note for note in notes)
    archive.unlink()
    desk.done("space", "export", "s", archive, home="guest")
    desk.done("space", "import", archive, *base)
    code, answer = desk.run("space", "grant", guest, "--rank", "contributor")
    assert code == NotAllowedError.exit_code
    assert named in answer["error"]["hint"]


def cut_short(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Break a rotation off before anything names the next key; return that key's file."""

    def cut(*_: object) -> None:
        raise CutError

    with monkeypatch.context() as patched:
        patched.setattr(key_commands, "_change_to", cut)
        assert desk.run("key", "rotate")[0] == 1
    return desk.folder / "home" / NEXT_KEY_FILE


def test_no_passphrase_is_set_beside_a_key_that_waits(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would lie in the clear, and take the place of a sealed one."""
    waiting = cut_short(desk, monkeypatch)
    secret = desk.folder / "secret"
    secret.write_text("correct horse")
    secret.chmod(0o600)
    code, answer = desk.run("passphrase", "--new-passphrase-file", secret)
    assert code == ConflictError.exit_code
    assert "key rotate" in answer["error"]["hint"]
    desk.done("key", "rotate")
    assert not waiting.exists()
    desk.done("passphrase", "--new-passphrase-file", secret)


def test_a_key_of_an_agent_that_is_gone_is_not_waited_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space names it: another key takes its place."""
    waiting = cut_short(desk, monkeypatch)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    gone = AgentKey(SigningKey(b"g" * 32).public)
    waiting.write_bytes(gone.form())
    desk.done("key", "rotate")
    assert not waiting.exists()
    assert desk.author() != gone.public
