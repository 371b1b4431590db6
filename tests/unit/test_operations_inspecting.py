"""The verb `inspect`: who is looked at, what is kept, and what `contribute` says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crdtmerge.errors import (
    ContentMissingError,
    NothingToResolveError,
)
from nodes.cli.render_inspect import inspected
from nodes.demo.training import Weights, save_model
from nodes.operations import inspecting
from nodes.store.memo import MEMO_FILE
from tests.fine_tunes import arrays, mlp, scaled
from tests.homes import Fleet, snapshot


class Setting:
    """A space on the base of real fine-tunes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tuned = mlp()
        self.fleet = Fleet.at(folder)
        self.home = self.fleet.init("home")
        self.base = self.model("base", self.tuned.base)
        self.call("space_create", name="s", base=self.base, strategy="linear")

    def model(self, name: str, weights: Weights) -> Path:
        """Write a model folder."""
        save_model(self.folder / name, weights)
        return self.folder / name

    def call(self, verb: str, **arguments: object) -> Any:
        """Run one verb."""
        return self.fleet.call(self.home, verb, **arguments)

    def contribute(self, name: str, weights: Weights, **words: object) -> Any:
        """Contribute a model."""
        return self.call("contribute", path=self.model(name, weights), **words)

    def contribute_all(self) -> list[str]:
        """Contribute the honest ones; return their ids."""
        made = [
            self.contribute(f"tune {place}", tune)
            for place, tune in enumerate(self.tuned.tunes)
        ]
        assert [answer["notes"] for answer in made] == [[]] * len(made)
        return [answer["content"] for answer in made]

    def bad(self, factor: float = 10.0) -> Weights:
        """Return one that is ten times as far."""
        return scaled(self.tuned.base, self.tuned.tunes[0], factor)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def test_what_stands_out_is_told_of_one_and_of_all(setting: Setting) -> None:
    """What, how much, against whom, what it may mean, what to do; and nothing changes."""
    contents = setting.contribute_all()
    bad = setting.contribute("bad", setting.bad(), uninspected=True)
    assert bad["notes"] == []
    before = snapshot(setting.home)
    answer = setting.call("inspect")
    assert snapshot(setting.home) == before
    json.dumps(answer, allow_nan=False)
    verdicts = {r["content"]: r["verdict"] for r in answer["reports"]}
    assert verdicts[bad["content"]] == "warning"
    assert [verdicts[c] for c in contents] == ["warning", *["clear"] * 4]
    one = setting.call("inspect", id=bad["content"][:10])
    assert one["compared"] == answer["compared"] == sorted([*contents, bad["content"]])
    assert one["reports"][0] in answer["reports"]
    far, copy = one["reports"][0]["findings"]
    assert (far["finding"], copy["finding"]) == ("far", "copy")
    assert far["figures"]["ratio"] == pytest.approx(10, rel=0.2)
    assert copy["against"] == contents[0]
    assert "10 times that of " + contents[0][:12] in copy["text"]
    assert all(found["meaning"] and found["advice"] for found in (far, copy))
    assert inspecting.CLEAN in answer["notes"]


def test_lines_say_who_what_and_against_whom(setting: Setting) -> None:
    """A table of all, then what was found of each."""
    contents = setting.contribute_all()
    bad = setting.contribute("bad", setting.bad())["content"]
    text = "\n".join(inspected(setting.call("inspect")))
    assert text.startswith("6 contributions inspected among 6: 6 of 6 tensors")
    for content in (*contents, bad):
        assert content[:12] in text
    assert "warning: far: its task vector is" in text
    assert "means" in text
    assert "--without" in text


def test_figures_are_kept_and_not_read_again(setting: Setting) -> None:
    """A second look reads nothing; without its memo, or with a damaged one, all again."""
    setting.contribute_all()
    (setting.home / MEMO_FILE).unlink(missing_ok=True)
    first = setting.call("inspect")
    assert first["read_bytes"] > 0
    again = setting.call("inspect")
    assert again == {**first, "read_bytes": 0}
    (setting.home / MEMO_FILE).write_bytes(b"no database" * 99)
    assert setting.call("inspect") == first


def test_contribute_says_what_stands_out(setting: Setting) -> None:
    """As notes: that a model is odd is no reason to refuse it."""
    setting.contribute_all()
    made = setting.contribute("bad", setting.bad(-1.0))
    assert made["new"]
    assert any("warning: its task vector points against" in n for n in made["notes"])
    assert any("-1 times that of" in note for note in made["notes"])
    assert made["notes"][-1].endswith("says more")


def test_contribute_reads_a_bounded_part(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large space some tensors are looked at, and how many is said."""
    setting.contribute_all()
    monkeypatch.setattr(inspecting, "INGEST_BYTES", 30_000)
    (setting.home / MEMO_FILE).unlink()
    notes = setting.contribute("bad", setting.bad())["notes"]
    assert any("of 6 tensors were inspected" in note for note in notes)
    whole = setting.call("inspect")
    assert whole["tensors"]["looked_at"] == 6


def test_contribute_says_that_it_left_out_pairs(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tensors of a far model are looked at, and few of its many pairs."""
    far = setting.bad(40.0)
    size = 2 * sum(value.nbytes for value in far.values())
    monkeypatch.setattr(inspecting, "INGEST_BYTES", size)
    notes = setting.contribute("bad", far)["notes"]
    assert any(note.startswith(inspecting.UNPAIRED) for note in notes)
    assert inspecting.UNPAIRED not in setting.call("inspect")["notes"]


def test_contribute_does_not_fail_with_its_inspection(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is signed already: what goes wrong afterwards is a note."""

    def fail(*_: object, **__: object) -> None:
        raise ContentMissingError("the base is gone")

    monkeypatch.setattr(inspecting, "measure", fail)
    made = setting.contribute("tune", setting.tuned.tunes[0])
    assert made["new"]
    assert made["notes"] == ["it was not inspected: the base is gone"]


def test_who_is_not_here_is_left_out_and_named(setting: Setting) -> None:
    """Of others it is said; whoever is asked about must be here."""
    contents = setting.contribute_all()
    member = setting.fleet.init("member")
    setting.fleet.admit(setting.home, member, setting.base, "contributor")
    own = setting.fleet.call(
        member, "contribute", path=setting.model("own", setting.bad())
    )
    answer = setting.fleet.call(member, "inspect")
    left_out = answer["left_out"]
    assert isinstance(left_out, list)
    assert [item["content"] for item in left_out] == sorted(contents)
    assert all("not arrived" in item["reason"] for item in left_out)
    assert answer["compared"] == [own["content"]]
    assert inspecting.FEW in answer["notes"]  # type: ignore[operator]
    with pytest.raises(ContentMissingError):
        setting.fleet.call(member, "inspect", id=contents[0])


def test_there_must_be_somebody(setting: Setting) -> None:
    with pytest.raises(NothingToResolveError):
        setting.call("inspect")


def test_of_many_the_first_are_compared(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the one that is asked about, wherever it stands."""
    contents = sorted(setting.contribute_all())
    monkeypatch.setattr(inspecting, "COMPANY_MAX", 3)
    answer = setting.call("inspect", id=contents[-1])
    assert answer["compared"] == [*contents[:2], contents[-1]]
    assert [item["content"] for item in answer["left_out"]] == contents[2:-1]


def test_task_vectors_of_other_kinds_are_compared(setting: Setting) -> None:
    """A delta of another's whole model is a copy of it."""
    contents = setting.contribute_all()
    base, tune = setting.tuned.base, setting.tuned.tunes[0]
    delta = {name: 2.0 * (tune[name] - base[name]) for name in base}
    made = setting.contribute("delta", delta, kind="delta")
    (report,) = setting.call("inspect", id=made["content"])["reports"]
    (copy,) = [f for f in report["findings"] if f["finding"] == "copy"]
    assert copy["against"] == contents[0]
    assert copy["figures"]["factor"] == pytest.approx(2, rel=1e-4)


def test_the_reports_are_those_of_float64(setting: Setting) -> None:
    """The figures of the answer, from the files themselves."""
    contents = setting.contribute_all()
    reports = {r["content"]: r for r in setting.call("inspect")["reports"]}
    base = arrays(setting.tuned.base)
    ground = np.concatenate([base[n].reshape(-1) for n in sorted(base)])
    for content, tune in zip(contents, setting.tuned.tunes, strict=True):
        found = arrays(tune)
        tau = np.concatenate(
            [(found[n].astype(float) - base[n]).reshape(-1) for n in sorted(base)]
        )
        relative = np.linalg.norm(tau) / np.linalg.norm(ground.astype(float))
        assert reports[content]["relative"] == pytest.approx(relative, rel=1e-5)
