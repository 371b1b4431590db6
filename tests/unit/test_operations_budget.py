"""I/O budgets in homes: shared, explored, verified, and refused with numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from crdtmerge.errors import BadInputError, VerificationError
from nodes.store.memo import MEMO_FILE
from tests.homes import SHAPES, Fleet, write_model
from tests.small_adapters import factors, write_adapter

MODEL = 4 * (17 * 5 + 5 + 3 * 5)
"""Bytes of the weights of a model of `tests.homes`."""
BIG = 4 * 17 * 5


class Setting:
    """One home with a space of three fine-tunes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = Fleet.at(folder)
        self.home = self.fleet.init("home")
        self.base = write_model(folder / "base", 0)
        self.tunes = [
            write_model(folder / f"tune{i}", i, near=self.base) for i in (1, 2, 3)
        ]
        self.call("space_create", name="s", base=self.base, strategy="linear")
        for tune in self.tunes:
            self.call("contribute", path=tune)

    def call(self, verb: str, **arguments: object) -> Any:
        """Run one verb on the home."""
        return self.fleet.call(self.home, verb, **arguments)

    def resolve(self, name: str, **arguments: object) -> Any:
        """Resolve to a folder of this name."""
        return self.call("resolve", out=self.folder / name, **arguments)

    def set_budget(self, budget: int | str) -> Any:
        """Share a recipe with a budget."""
        extras = {"io_budget": str(budget)}
        return self.call("recipe_set", strategy="linear", extras=extras)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def test_shared_budget_bounds_what_everyone_reads(setting: Setting) -> None:
    """Two homes choose the same, told of nothing but the recipe."""
    setting.set_budget(3 * MODEL)
    found = setting.resolve("one")
    budget = found["io_budget"]
    assert not found["explored"]
    assert MODEL < budget["reads"] <= budget["bytes"] == 3 * MODEL
    assert 4 * MODEL - budget["reads"] == budget["unread_bytes"]
    names = [name for left in budget["unread"].values() for name in left]
    assert names
    card = (setting.folder / "one" / "README.md").read_text()
    for left in budget["unread"].values():
        assert f"{len(left)} of its tensors not read" in card
    assert set(names) <= set(SHAPES)
    other = Setting(setting.folder / "other")
    other.set_budget(f"{3 * MODEL}B")
    again = other.resolve("one")
    assert again["model_digest"] == found["model_digest"]
    assert again["io_budget"] == budget


def test_explored_budget_is_that_of_a_recipe_of_its_own(setting: Setting) -> None:
    """The shared recipe stays; `none` takes its budget away, and so reads everything."""
    whole = setting.resolve("whole")
    explored = setting.resolve("explored", io_budget="0.9KB")
    assert explored["explored"]
    assert explored["recipe"]["extras"] == {"io_budget": "900"}
    assert explored["merge_id"] != whole["merge_id"]
    assert explored["model_digest"] != whole["model_digest"]
    setting.set_budget(900)
    shared = setting.resolve("shared")
    assert shared["merge_id"] == explored["merge_id"]
    assert shared["model_digest"] == explored["model_digest"]
    lifted = setting.resolve("lifted", io_budget="none")
    assert lifted["model_digest"] == whole["model_digest"]
    assert "io_budget" not in lifted
    of_ties = setting.resolve("ties", strategy="ties")
    assert of_ties["recipe"]["extras"] == {"io_budget": "900"}


def test_budget_below_the_base_is_refused_where_it_is_asked_for(
    setting: Setting,
) -> None:
    """Both when it is shared and when it is explored, with the numbers."""
    said = f"{MODEL - 1} bytes is below the {MODEL} bytes"
    with pytest.raises(BadInputError, match=said):
        setting.set_budget(MODEL - 1)
    with pytest.raises(BadInputError, match=said):
        setting.resolve("out", io_budget=str(MODEL - 1))
    assert not (setting.folder / "out").exists()
    with pytest.raises(BadInputError, match="no size"):
        setting.resolve("out", io_budget="a lot")
    with pytest.raises(BadInputError, match="is not above 0"):
        setting.set_budget(0)
    with pytest.raises(BadInputError, match=f"below the {2 * MODEL} bytes"):
        setting.resolve("out", io_budget=str(2 * MODEL - 1), strategy="metagpt")


@pytest.mark.parametrize("spoil", ["gone", "damaged", "kept"])
def test_model_under_a_budget_is_verified(setting: Setting, spoil: str) -> None:
    """By this home's own norms, measured again where they are not kept."""
    setting.set_budget(2 * MODEL)
    setting.resolve("out")
    norms = setting.home / MEMO_FILE
    assert norms.is_file()
    if spoil == "gone":
        norms.unlink()
    elif spoil == "damaged":
        norms.write_bytes(b"x" * 5000)
    found = setting.call("verify", dir=setting.folder / "out")
    assert found["recomputed"]
    assert found["current"]


def test_another_choice_than_the_budgets_is_found(setting: Setting) -> None:
    """A resolution that leaves out what the budget does not is refused."""
    setting.set_budget(2 * MODEL)
    setting.resolve("out")
    path = setting.folder / "out" / "resolution.json"
    told = json.loads(path.read_text())
    (left, *_) = [c for c in told["contributions"] if "unread" in c]
    left["unread"]["tensors"] += 1
    path.write_text(json.dumps(told, sort_keys=True, indent=2) + "\n")
    with pytest.raises(VerificationError, match="leaves other tensors unread"):
        setting.call("verify", dir=setting.folder / "out")


def test_adapter_under_a_budget_reads_the_pairs_that_fit(tmp_path: Path) -> None:
    """Without the base, there is room for the larger of two pairs of one weight."""
    setting = Setting.__new__(Setting)
    setting.folder, setting.fleet = tmp_path, Fleet.at(tmp_path)
    setting.home = setting.fleet.init("home")
    base = write_model(tmp_path / "base", 0)
    setting.call("space_create", name="s", base=base, strategy="linear")
    for seed in (1, 2):
        adapter = write_adapter(tmp_path / f"a{seed}", factors(seed))
        setting.call("contribute", path=adapter)
    whole = setting.resolve("whole", **{"as": "adapter"})
    pair = 4 * (2 * 5 + 17 * 2) + 8
    found = setting.resolve("part", io_budget=str(2 * pair - 1), **{"as": "adapter"})
    assert found["io_budget"]["reads"] == pair
    assert found["model_digest"] != whole["model_digest"]
    assert setting.call("verify", dir=tmp_path / "part")["recomputed"]
    weights = load_file(tmp_path / "part" / "adapter_model.safetensors")
    assert len(weights) == 2


def test_check_says_what_the_base_takes(setting: Setting) -> None:
    """Before anything is read."""
    extras = {"io_budget": str(MODEL + 5)}
    found = setting.call("recipe_check", strategy="linear", extras=extras)
    said = f"of the I/O budget the base takes {MODEL} bytes, task vectors 5"
    assert said in found["notes"]
    extras = {"io_budget": "7"}
    found = setting.call("recipe_check", strategy="linear", extras=extras)
    assert any("is refused" in note for note in found["notes"])
