"""Models not quite of the base's form: of other dtypes, or without some of its tensors."""

import json
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from crdtmerge import numerics
from crdtmerge.errors import (
    BadInputError,
    ContractError,
    FaultyContributionError,
)
from crdtmerge.manifest import Manifest
from crdtmerge.resolve.ground import Footing
from crdtmerge.resolve.plan import make_plan
from crdtmerge.resolve.reading import TensorReader
from crdtmerge.resolve.settings import Contribution
from crdtmerge.resolve.summing import TensorSums
from crdtmerge.strategies import make_recipe
from crdtmerge.strategies.table import SUMS
from tests.homes import Fleet
from tests.models import SHAPES as MODEL_SHAPES
from tests.models import Merge, contribution_of, make_merge
from tests.sums import FLOATS, UNIT, Store, World
from tests.unit.test_operations import refused

SHAPES = {"bias": (7,), "head": (3, 5), "weight": (11, 5)}
LARGE = {"bias": 1.0, "head": 40_000.0, "weight": 1.0}
"""A bound on the values: those of `head` are near the end of float16."""


class Setting:
    """A space on a base of float16, and models to contribute."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = Fleet.at(folder)
        self.home = self.fleet.init("home")
        self.values = {
            name: (np.random.default_rng(9).uniform(-1, 1, shape) * LARGE[name])
            for name, shape in SHAPES.items()
        }
        self.base = self.model("base", np.float16, 0.0)
        self.call("space_create", name="s", base=self.base, strategy="linear")

    def model(
        self,
        name: str,
        dtype: type[np.floating[Any]],
        away: float,
        tensors: Iterable[str] = SHAPES,
        **changed: float,
    ) -> Path:
        """Write a model whose values are those of the base, and something more."""
        folder = self.folder / name
        folder.mkdir()
        rng = np.random.default_rng(len(name))
        found = {}
        for key in tensors:
            values = self.values[key] * (1 + away * rng.uniform(-1, 1, SHAPES[key]))
            values.flat[0] = changed.get(key, values.flat[0])
            found[key] = values.astype(dtype)
        save_file(found, folder / "model.safetensors")
        (folder / "config.json").write_text("{}")
        return folder

    def call(self, verb: str, **arguments: object) -> Any:
        """Run one verb."""
        return self.fleet.call(self.home, verb, **arguments)

    def resolved(self, name: str, **words: object) -> dict[str, Any]:
        """Resolve; it must verify by computing all again."""
        self.call("resolve", out=self.folder / name, **words)
        assert self.call("verify", dir=self.folder / name)["recomputed"]
        return load_file(self.folder / name / "model.safetensors")

    def allow(self, missing: str = "base") -> None:
        """Set the policy of the space."""
        self.call("recipe_set", strategy="linear", extras={"missing": missing})


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


# --- dtypes ----------------------------------------------------------------------------


def test_a_fine_tune_in_float32_merges_into_a_base_in_float16(setting: Setting) -> None:
    """The mean in float64, rounded once to the base's dtype; or to the one asked for."""
    one = setting.model("one", np.float32, 0.01)
    three = setting.model("three", np.float64, 0.01)
    half = setting.model("half!", np.float16, 0.01)
    notes = setting.call("contribute", path=one)["notes"]
    assert any("3 of its tensors are F32" in note for note in notes)
    assert any("308 bytes where the base's take 154" in note for note in notes)
    setting.call("contribute", path=three)
    notes = setting.call("contribute", path=half)["notes"]
    assert all("inspect" in note for note in notes)
    loaded = [load_file(m / "model.safetensors") for m in (one, three, half)]
    for name, found in setting.resolved("out").items():
        mean = np.mean([m[name].astype(np.float64) for m in loaded], axis=0)
        assert found.dtype == np.float16
        assert np.array_equal(found, mean.astype(np.float16))
    wide = {"strategy": "linear", "output_dtype": "float32"}
    for name, found in setting.resolved("wide", **wide).items():
        mean = np.mean([m[name].astype(np.float64) for m in loaded], axis=0)
        assert found.dtype == np.float32
        assert np.allclose(found, mean, rtol=2e-7, atol=0)


def test_a_value_that_the_bases_dtype_cannot_hold_is_refused(setting: Setting) -> None:
    """It is within the headroom, and no merge of it alone could be written."""
    far = setting.model("far", np.float32, 0.0, head=65_520.0)
    error = refused(setting, BadInputError, "contribute", path=far)  # type: ignore[arg-type]
    assert "'head': a value of it is beyond the largest finite F16" in str(error)
    near = setting.model("near", np.float32, 0.0, head=65_519.0)
    content = setting.call("contribute", path=near)["content"]
    assert setting.call("check", id=content)["usable"]
    assert setting.resolved("out")["head"].flat[0] == 65_504.0


def _in_dtype(merge: Merge, place: int, dtype: str) -> Contribution:
    """A contribution of the same values, its 16-bit tensors in a wider dtype."""
    entries = []
    for entry in merge.contributions[place].manifest.tensors:
        if entry.dtype in {"BF16", "F16"}:
            values = numerics.upcast(merge.blobs.held[entry.blob], entry.dtype)
            blob = merge.blobs.put(numerics.downcast(values, dtype))
            entries.append(replace(entry, dtype=dtype, blob=blob))
        else:
            entries.append(entry)
    made = Manifest("full", merge.base.content_id, tuple(entries))
    return contribution_of(made, merge.contributions[place].weight)


def test_equal_bytes_of_two_dtypes_are_two_tasks() -> None:
    """Their digests are equal; what they stand for is not."""
    merge = make_merge()
    (tune,) = merge.contributions[:1]
    other = tuple(
        replace(e, dtype="F16") if e.dtype == "BF16" else e
        for e in tune.manifest.tensors
    )
    read_as = contribution_of(Manifest("full", merge.base.content_id, other))
    recipe = make_recipe("linear", {})
    keys = [
        {t.tensor: t.key for t in make_plan(recipe, merge.base, [offer]).tasks}
        for offer in (tune, read_as)
    ]
    assert {n for n in keys[0] if keys[0][n] != keys[1][n]} == {"embed.weight"}


@pytest.mark.parametrize("name", sorted(SUMS))
def test_kept_sums_go_on_over_dtypes(name: str) -> None:
    """Whoever comes and goes, in whichever dtype: the bytes of a whole resolve."""
    world = World.make(4)
    offers = world.offers([(m, UNIT) for m in range(4)])
    merge = Merge(world.base, tuple(offers), world.blobs)
    wide = [_in_dtype(merge, 0, "F32"), _in_dtype(merge, 1, "F64")]
    recipe = make_recipe(name, {}, seed_scope="contribution")
    store = Store()
    for chosen in (offers, [*offers, *wide], [wide[1], *offers[1:]], offers[:1]):
        outcome, sink = world.again(recipe, chosen, store)
        whole = world.whole(recipe, chosen)
        assert {name: whole[name] for name in sink.held} == sink.held
    assert not outcome.afresh, "one that leaves is taken out, whatever its dtype"


def test_terms_of_a_wide_dtype_count_as_the_products_that_they_are() -> None:
    """Four each in float64, for any weight: kept sums end where a fresh one does."""
    merge = make_merge()
    (wide,) = [replace(_in_dtype(merge, 0, "F64"), weight=1)]
    plan = make_plan(make_recipe("linear", {}), merge.base, [wide])
    tensor = TensorSums(plan, "embed.weight", TensorReader(plan, merge.blobs))
    sums = tensor.afresh()
    ((key, (share, _)),) = sums.members.items()
    for count, most in ((1 << 14, True), ((1 << 14) + 1, False)):
        with nullcontext() if most else pytest.raises(ContractError, match="products"):
            tensor.finishing(replace(sums, members={key: (share, count)}))


def test_without_a_base_the_output_holds_what_all_models_hold() -> None:
    """The smallest dtype that is no loss to any, whichever comes first."""
    merge = make_merge()
    first, wide = merge.contributions[0], _in_dtype(merge, 1, "F32")
    recipe, none = make_recipe("linear", {}), Footing("none")
    for offers, dtype in (([first, wide], "F32"), ([first, first], "BF16")):
        plan = make_plan(recipe, merge.base, offers, footing=none)
        assert {n: d for n, d, _ in plan.outputs}["embed.weight"] == dtype


# --- tensors that a model lacks --------------------------------------------------------


def test_a_model_that_lacks_tensors_is_refused_unless_the_recipe_allows(
    setting: Setting,
) -> None:
    """The error names them, and says how it could be allowed."""
    part = setting.model("part", np.float16, 0.01, ("bias",))
    error = refused(setting, BadInputError, "contribute", path=part)  # type: ignore[arg-type]
    assert "lacks 2 tensors ('head', 'weight') of the base" in str(error)
    assert "`missing: base`" in error.hint
    setting.allow()
    answer = setting.call("contribute", path=part)
    assert answer["notes"] == [
        "it lacks 2 of the base's tensors: they stay as they are"
    ]
    assert setting.call("check", id=answer["content"])["usable"]


@pytest.mark.parametrize("strategy", ["linear", "ties", "dare_linear", "model_stock"])
def test_what_is_missing_counts_as_the_bases(setting: Setting, strategy: str) -> None:
    """The bytes of a merge with a model that has the base's tensors in their place."""
    setting.allow()
    full = setting.model("full", np.float16, 0.01)
    part = setting.model("part", np.float16, 0.01, ("bias", "weight"))
    setting.call("contribute", path=full)
    lacking = setting.call("contribute", path=part)["content"]
    words: dict[str, Any] = {"strategy": strategy, "seed_scope": "contribution"}
    if strategy == "dare_linear":
        words = {"strategy": strategy, "params": {"p": "0"}}
    found = setting.resolved("out", **words)
    setting.call("remove", id=lacking)
    tensors = load_file(part / "model.safetensors")
    tensors["head"] = load_file(setting.base / "model.safetensors")["head"]
    whole = setting.folder / "whole"
    whole.mkdir()
    save_file(tensors, whole / "model.safetensors")
    (whole / "config.json").write_text("{}")
    setting.call("contribute", path=whole)
    expected = setting.resolved("again", **words)
    assert {k: v.tobytes() for k, v in found.items()} == {
        k: v.tobytes() for k, v in expected.items()
    }


def test_a_recipe_that_refuses_again_names_the_contribution(setting: Setting) -> None:
    """It stays in the set; the merge is refused, and a check says why, without proof."""
    setting.allow()
    part = setting.model("part", np.float16, 0.01, ("bias",))
    content = setting.call("contribute", path=part)["content"]
    setting.allow("refuse")
    error = refused(
        setting,  # type: ignore[arg-type]
        FaultyContributionError,
        "resolve",
        out=setting.folder / "out",
    )
    assert f"contribution {content[:12]}: the model lacks 2 tensors" in str(error)
    found = setting.call("check", id=content)
    assert (found["usable"], found["proven"]) == (False, False)
    explored = {"strategy": "linear", "extras": {"missing": "base"}}
    assert setting.resolved("out", **explored).keys() == SHAPES.keys()


def test_another_strategy_is_explored_under_the_spaces_policy(setting: Setting) -> None:
    """A word about the strategy says nothing of incomplete models."""
    setting.allow()
    part = setting.model("part", np.float16, 0.01, ("bias",))
    setting.call("contribute", path=part)
    setting.resolved("out", strategy="task_arithmetic")
    stated = json.loads((setting.folder / "out" / "resolution.json").read_text())
    assert stated["recipe"]["extras"] == {"missing": "base"}


def test_tensors_that_the_base_lacks_are_refused_under_either(setting: Setting) -> None:
    """No policy makes room for them; the first are named, and how many."""
    setting.allow()
    more = setting.model("more", np.float16, 0.01)
    tensors = load_file(more / "model.safetensors")
    tensors |= {f"new.{i}": tensors["bias"] for i in range(5)}
    save_file(tensors, more / "model.safetensors")
    error = refused(setting, BadInputError, "contribute", path=more)  # type: ignore[arg-type]
    said = "has 5 tensors ('new.0', 'new.1', 'new.2' and 2 more) that the base lacks"
    assert said in str(error)


def test_without_a_base_nothing_can_be_taken_from_it() -> None:
    """Every model must have every tensor then."""
    merge = make_merge()
    whole = merge.contributions[0]
    part = contribution_of(
        replace(whole.manifest, tensors=whole.manifest.tensors[:-1]), UNIT
    )
    recipe = make_recipe("linear", {}, extras={"missing": "base"})
    with pytest.raises(BadInputError, match="'scale' is not in every model"):
        make_plan(recipe, merge.base, [whole, part], footing=Footing("none"))
    assert {*FLOATS, "positions"} == MODEL_SHAPES.keys()
