"""What a home keeps of its resolves: a memo and sums, used, shown, and collected."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.cli import run
from nodes.store.memo import MEMO_FILE
from tests.homes import Fleet, snapshot, write_model


class Setting:
    """One home with a space under ties, its base, and fine-tunes on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = Fleet.at(folder)
        self.home = self.fleet.init("home")
        self.base = write_model(folder / "base", 0)
        self.tunes = [
            write_model(folder / f"tune{i}", i, near=self.base) for i in range(1, 5)
        ]
        self.call("space_create", name="digits", base=self.base, strategy="ties")

    def call(self, verb: str, **arguments: object) -> Any:
        """Run one verb on the home."""
        return self.fleet.call(self.home, verb, **arguments)

    def contribute(self, *indices: int) -> None:
        """Contribute some of the fine-tunes."""
        for index in indices:
            self.call("contribute", path=self.tunes[index])

    def resolve(self, name: str, **arguments: object) -> Any:
        """Resolve; before, let it be told, and compare."""
        out = self.folder / name
        before = snapshot(self.home)
        told = self.call("resolve", out=out, explain=True, **arguments)
        assert snapshot(self.home) == before
        assert not out.exists() or arguments.get("force")
        made = self.call("resolve", out=out, **arguments)
        for key in ("read", "read_bytes", "computed", "tasks", "resumed"):
            assert told[key] == made[key], key
        assert told["written_bytes"] == made["written_bytes"]
        for key in ("tensors", "bytes"):
            assert told["reused"][key] == made["reused"][key]
        for key in ("tensors", "read_bytes"):
            assert told["sums"][key] == made["sums"][key]
        return made


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    """Return a setting in which sums pay from one contribution on."""
    monkeypatch.setattr("crdtmerge.resolve.cost.ITEM_BYTES", 0)
    monkeypatch.setattr("crdtmerge.resolve.cost.MEMBER_BYTES", 0)
    return Setting(tmp_path)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fresh(setting: Setting) -> dict[str, bytes]:
    """Return what a home without any memory writes."""
    shutil.move(setting.home / MEMO_FILE, setting.folder / "memo")
    setting.call("resolve", out=setting.folder / "fresh", force=True, sums="never")
    shutil.move(setting.folder / "memo", setting.home / MEMO_FILE)
    return content(setting.folder / "fresh")


def test_resolves_follow_a_space_at_the_cost_of_what_changed(setting: Setting) -> None:
    """One by one contributions come, and one goes: each resolve says what it does."""
    setting.contribute(0, 1)
    first = setting.resolve("one")
    assert first["sums"]["tensors"] == first["computed"]["tensors"] == 3
    again = setting.resolve("two")
    assert again["computed"]["tensors"] == again["read_bytes"] - again["bytes"] == 0
    setting.contribute(2)
    more = setting.resolve("three")
    assert more["sums"]["tensors"] >= 1
    assert content(setting.folder / "three") == fresh(setting)
    setting.call("remove", id=more["contributions"][0])
    setting.resolve("three", force=True)
    assert content(setting.folder / "three") == fresh(setting)


def test_an_exploration_keeps_no_sums_and_uses_none(setting: Setting) -> None:
    """Another recipe, or one left out: the sums of the space stay as they are."""
    setting.contribute(0, 1, 2)
    made = setting.resolve("one")
    sums = setting.home / "sums"
    before = {p: p.read_bytes() for p in sums.rglob("*") if p.is_file()}
    assert before
    asking: list[dict[str, object]] = [
        {"strategy": "linear"},
        {"without": [made["contributions"][0]]},
    ]
    for number, asked in enumerate(asking):
        explored = setting.resolve(f"explored{number}", **asked)
        assert explored["sums"]["tensors"] == 0
    assert {p: p.read_bytes() for p in sums.rglob("*") if p.is_file()} == before
    setting.contribute(3)
    never = setting.resolve("never", sums="never")
    assert never["sums"]["tensors"] == 0


def test_sums_are_shown_and_collected_when_they_are_of_no_use(setting: Setting) -> None:
    """By `store show` and `store gc`: after another recipe, or a grace unused."""
    setting.contribute(0, 1)
    assert setting.call("store_show")["sums"]["count"] == 0
    setting.resolve("one")
    shown = setting.call("store_show")["sums"]
    assert shown["count"] == 3
    assert shown["bytes"] > 0
    setting.fleet.clock = 4e9  # nobody has used them for so long
    assert setting.call("store_gc", dry_run=True)["sums"]["count"] == 3
    assert setting.call("store_show")["sums"]["count"] == 3
    gone = setting.call("store_gc")["sums"]
    assert gone["count"] == 3
    assert "not used" in gone["spaces"][0]["why"]
    assert setting.call("store_show")["sums"]["count"] == 0
    setting.resolve("two", force=True)
    setting.contribute(2)
    setting.resolve("three")
    setting.fleet.clock = 0
    setting.call("recipe_set", strategy="linear")
    assert "another recipe" in setting.call("store_gc")["sums"]["spaces"][0]["why"]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run commands, and return what they say."""

    def say(*arguments: str) -> str:
        assert run(arguments) == 0
        return capsys.readouterr().out

    return say


def test_people_are_told_what_a_resolve_takes(
    setting: Setting, lines: Callable[..., str]
) -> None:
    """In words: read, compute, reuse, write, disk, memory, sums."""
    setting.contribute(0, 1)
    home, out = str(setting.home), str(setting.folder / "out")
    told = lines("resolve", "--out", out, "--home", home, "--explain")
    for word in ("read", "compute", "write", "disk", "memory", "they pay from"):
        assert word in told
    assert "reuse" not in told
    assert not Path(out).exists()
    assert "3 computed" in lines("resolve", "--out", out, "--home", home)
    assert "reuse      3 tensors" in lines(
        "resolve", "--out", out, "--home", home, "--explain", "--force"
    )
    assert "3 reused" in lines("resolve", "--out", out, "--home", home, "--force")
    assert "kept sums of 3 tensors" in lines("store", "show", "--home", home)
