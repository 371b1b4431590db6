"""Recipes by tag and depth, from words to bytes, and recipes of peers that are no good."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from crdtmerge.errors import (
    BadInputError,
    CrdtMergeError,
    MalformedRecordError,
    NotFoundError,
    UpgradeNeededError,
    VerificationError,
)
from crdtmerge.formats.recipe_file import parse_recipe
from crdtmerge.formats.yaml_text import parse_yaml
from crdtmerge.recipe import Recipe, Rule, recipe_from_value
from crdtmerge.replica import Replica
from crdtmerge.strategies import make_recipe
from nodes.operations.checking import check_alone
from tests.unit.test_operations import Setting, refused, setting

__all__ = ["setting"]

SHAPES = {"layer.weight", "layer.bias", "head.weight"}


def weigh(models: str, weight: str, tensors: str = "*") -> dict[str, object]:
    return {"tensors": tensors, "models": models, "parameters": {"weight": weight}}


def resolved(setting: Setting, name: str, **words: object) -> Any:
    """Resolve to a folder of this name, which must verify."""
    answer = setting.call("resolve", out=setting.folder / name, **words)
    assert setting.call("verify", dir=setting.folder / name)["recomputed"]
    return answer


# --- tags ------------------------------------------------------------------------------


def test_a_weight_by_tag_is_that_weight(setting: Setting) -> None:
    """The bytes are those of the same weights said by the contributors themselves."""
    setting.contribute(0, tags=["math", "code", "math"])
    setting.contribute(1, tags=["text"])
    rules = [weigh("tag:math", "3"), weigh("tag:text", "0.5")]
    setting.call("recipe_set", strategy="linear", rules=rules)
    by_tag = resolved(setting, "by_tag")
    other = Setting(setting.folder / "other")
    other.contribute(0, weight="3")
    other.contribute(1, weight="0.5")
    by_weight = resolved(other, "by_weight")
    assert by_tag["model_digest"] == by_weight["model_digest"]
    tags = {tuple(c["tags"]) for c in setting.status()["contributions"]}
    assert tags == {("code", "math"), ("text",)}
    # The oracle: a plain weighted mean of what lies on disk.
    tensors = [load_file(tune / "model.safetensors") for tune in setting.tunes[:2]]
    merged = load_file(setting.folder / "by_tag" / "model.safetensors")
    for name, found in merged.items():
        exact = (3 * tensors[0][name].astype(float) + 0.5 * tensors[1][name]) / 3.5
        assert np.abs(found - exact).max() < 1e-6


def test_the_merge_id_follows_the_tags_that_a_rule_uses(setting: Setting) -> None:
    """Another tag changes nothing, one that a rule selects by names another model."""
    setting.contribute(0, tags=["math"])
    setting.contribute(1)
    setting.call("recipe_set", strategy="linear", rules=[weigh("tag:math", "2")])
    before = setting.status()
    first = resolved(setting, "first")
    setting.contribute(1, tags=["text"])
    unused = setting.status()
    assert unused["record_root"] != before["record_root"]
    assert unused["merge_id"] == before["merge_id"]
    setting.contribute(1, tags=["math"])
    used = setting.status()
    assert used["visible_root"] == before["visible_root"]
    assert used["merge_id"] != before["merge_id"]
    second = resolved(setting, "second")
    assert second["merge_id"] == used["merge_id"]
    assert second["model_digest"] != first["model_digest"]
    # A model of before is still what it says, though not what the space now means.
    assert setting.call("verify", dir=setting.folder / "first")["current"] is False


def test_a_tag_that_nobody_gave_is_no_model_of_the_space(setting: Setting) -> None:
    """A resolution that claims it is refused, though its own digests hold."""
    setting.contribute(0, tags=["math"])
    setting.contribute(1)
    setting.call("recipe_set", strategy="linear", rules=[weigh("tag:math", "2")])
    resolved(setting, "out")
    file = setting.folder / "out" / "resolution.json"
    text = file.read_text()
    claims: list[tuple[str, type[CrdtMergeError], str]] = [
        ('"meth"', VerificationError, "has the tag 'meth'"),
        ('"code", "math"', VerificationError, "has the tag 'code'"),
        ('"math", "code"', BadInputError, "sorted"),
        ('"math", "math"', BadInputError, "sorted"),
    ]
    for claim, error, said in claims:
        file.write_text(text.replace('"math"\n', f"{claim}\n"))
        with pytest.raises(error, match=said):
            setting.call("verify", dir=setting.folder / "out")


def test_a_selector_that_selects_nobody_is_noted(setting: Setting) -> None:
    """A tag that was mistyped would else go unseen."""
    setting.contribute(0, tags=["math"])
    rules = [weigh("tag:math", "2"), weigh("tag:mth", "2"), weigh("tag:mth", "3")]
    made = setting.call("recipe_set", strategy="linear", rules=rules)
    assert made["notes"] == ["tag:mth selects no contribution that is visible now"]


# --- words, files and what they come to ------------------------------------------------

FILE = """
strategy: linear
pre: [{trim: {density: 0.5}}]
weights: [{tag: math, weight: 2}]
rules:
  - {tensors: "*.bias", parameters: {trim.density: 1}}
  - {tensors: "lyer*", weight: 1}
"""


def test_a_file_explored_and_a_file_set_are_one_model(setting: Setting) -> None:
    setting.contribute(0, tags=["math"])
    setting.contribute(1)
    wording = parse_recipe(parse_yaml(FILE))
    explored = resolved(setting, "explored", **wording)
    assert explored["explored"]
    made = setting.call("recipe_set", **wording)
    assert made["notes"] == ["the rule for 'lyer*' fits no tensor of the base"]
    shared = resolved(setting, "shared")
    assert not shared["explored"]
    for key in ("model_digest", "merge_id", "recipe"):
        assert explored[key] == shared[key]
    shown = setting.call("recipe_show")
    again = setting.call("recipe_set", **parse_recipe(parse_yaml(shown["yaml"])))
    assert not again["new"]


def test_one_parameter_explored_leaves_the_rest_of_the_recipe(setting: Setting) -> None:
    """Steps, rules, dtype and scope stay as they are shared."""
    setting.contribute(0, tags=["math"])
    setting.contribute(1)
    wording = {**parse_recipe(parse_yaml(FILE)), "output_dtype": "bf16"}
    setting.call("recipe_set", **wording)
    changed = resolved(setting, "changed", params={"trim.density": "0.25"})["recipe"]
    shared = setting.call("recipe_show")["recipe"]
    assert changed["parameters"]["trim.density"] == "0.25"
    same = ("strategy", "pre", "rules", "output_dtype", "seed_scope")
    assert [changed[key] for key in same] == [shared[key] for key in same]


def test_ids_may_be_short_where_the_space_knows_them(setting: Setting) -> None:
    """A whole id need not be of what is visible: a recipe may be set before that is."""
    content = setting.contribute(0)["content"]
    author = setting.fleet.author(setting.home)
    rules = [weigh(f"content:{content[:6]}", "2"), weigh(f"author:{author[:6]}", "3")]
    made = setting.call("recipe_set", strategy="linear", rules=rules)["recipe"]
    assert [r["models"] for r in made["rules"]] == [
        f"content:{content}",
        f"author:{author}",
    ]
    unseen = [weigh(f"content:{'0' * 64}", "2")]
    assert setting.call("recipe_set", strategy="linear", rules=unseen)["new"]
    rules = [weigh("content:000000", "2")]
    refused(setting, NotFoundError, "recipe_set", strategy="linear", rules=rules)


# --- what each tensor will get ---------------------------------------------------------


def test_a_check_tells_what_a_resolve_then_does(setting: Setting) -> None:
    """Groups, rules and weights, and notes for what is idle."""
    contents = [setting.contribute(0, tags=["math"])["content"]]
    contents.append(setting.contribute(1)["content"])
    wording = parse_recipe(parse_yaml(FILE))
    wording["rules"] = [*wording["rules"], weigh("tag:none", "7")]  # type: ignore[misc]
    found = setting.call("recipe_check", **wording)
    assert {t["name"] for t in found["tensors"]} == SHAPES
    assert [t["layer"] for t in found["tensors"]] == [None] * 3
    groups = {g["group"]: g for g in found["groups"]}
    of = {t["name"]: groups[t["group"]] for t in found["tensors"]}
    assert of["layer.weight"] is of["head.weight"]
    assert of["layer.weight"]["count"] == 2
    assert of["layer.weight"]["rules"] == [1, 4]
    assert of["layer.bias"]["rules"] == [1, 2, 4]
    assert of["layer.bias"]["parameters"]["trim.density"] == "1"
    assert of["head.weight"]["parameters"]["trim.density"] == "0.5"
    expected = {contents[0]: "2", contents[1]: "1"}
    for group in groups.values():
        weights = {c["content"]: c["weight"] for c in group["contributions"]}
        assert weights == expected
    notes = " ".join(found["notes"])
    assert "rule 3 ('lyer*') fits no tensor" in notes
    assert "rule 4: tag:none selects no contribution" in notes
    assert "a base is needed" not in notes  # a check always has one
    assert found["memory"]["tensor"] == "layer.weight"
    assert found["memory"]["reads"] == 3 * 17 * 5 * 4
    assert found["memory"]["steps"] == (2 + 3) * 17 * 5 * 4
    explored = resolved(setting, "out", **wording)
    assert explored["recipe"]["digest"] == found["recipe"]["digest"]


def test_a_check_tells_of_rules_that_later_ones_replace(setting: Setting) -> None:
    """Only where nothing is left of it: for all it fits, and all that it selects."""

    def notes(*rules: dict[str, object]) -> list[str]:
        found = setting.call("recipe_check", strategy="ties", rules=list(rules))
        return [note for note in found["notes"] if "replace" in note]

    def dense(tensors: str, models: str = "", **more: str) -> dict[str, object]:
        parameters = {"density": "0.5", **more}
        return {"tensors": tensors, "models": models, "parameters": parameters}

    setting.contribute(0, tags=["math"])
    setting.contribute(1)
    said = ["rule 1 ('*.bias'): later rules replace all that it gives"]
    assert notes(dense("*.bias"), dense("layer.*")) == said
    assert notes(dense("*.bias", "tag:math"), dense("*")) == said
    assert notes(dense("*.bias", "tag:math"), dense("*", "tag:math")) == said
    assert notes(dense("*.bias"), dense("*", "tag:math")) == []
    assert notes(dense("*"), dense("layer.*")) == []
    assert notes(dense("*.bias", **{"lambda": "2"}), dense("*")) == []
    assert notes(weigh("tag:math", "2", "*.bias"), dense("*")) == []


def test_a_check_counts_what_has_no_weight(setting: Setting) -> None:
    setting.contribute(0)
    rules = [weigh("", "0", "*.bias")]
    found = setting.call("recipe_check", strategy="linear", rules=rules)
    assert "all weights are zero for 1 tensor" in found["notes"]


def test_a_check_of_the_space_is_of_its_own_recipe(setting: Setting) -> None:
    """Before any contribution too; a pattern takes some tensors."""
    setting.call("recipe_set", strategy="metagpt")
    found = setting.call("recipe_check", tensor="layer.*")
    assert found["recipe"]["strategy"] == "metagpt/1"
    assert [t["name"] for t in found["tensors"]] == ["layer.bias", "layer.weight"]
    assert any("over the whole model" in note for note in found["notes"])
    refused(setting, BadInputError, "recipe_check", tensor="lyer.*")


def test_a_check_needs_no_home(tmp_path: Path) -> None:
    """Only a file and a base; depth is told, and what is copied."""
    from safetensors.numpy import save_file

    base = tmp_path / "base"
    base.mkdir()
    tensors = {f"h.{n}.w": np.zeros((2, 2), np.float32) for n in range(3)}
    save_file({**tensors, "ids": np.arange(3)}, base / "model.safetensors")
    text = """
    strategy: ties
    parameters: {density: [0, 1]}
    weights: [{content: abcd, weight: 2}]
    rules: [{name: ids, parameters: {density: 1}}]
    """
    found = check_alone({**parse_recipe(parse_yaml(text)), "base": str(base)})
    of = {t["name"]: (t["layer"], t["layers"], t["group"]) for t in found["tensors"]}  # type: ignore[attr-defined]
    assert of["h.1.w"][:2] == (1, 3)
    groups: Any = found["groups"]
    densities = [
        groups[of[f"h.{n}.w"][2] - 1]["parameters"]["density"] for n in range(3)
    ]
    assert densities == ["0", "0.5", "1"]
    assert groups[of["ids"][2] - 1]["merged"] is False
    recipe: Any = found["recipe"]
    assert [rule["models"] for rule in recipe["rules"]] == ["", "content:abcd", ""]
    assert "digest" not in recipe
    notes: Any = found["notes"]
    assert "1 of 4 tensors are no floats: the base's own" in notes
    assert "rule 3 ('name:ids') fits no tensor that is merged" in notes


# --- recipes of peers ------------------------------------------------------------------

GOOD = make_recipe("linear", {})
WEIGHT = (("weight", "2"),)
BAD: list[tuple[Recipe, type[CrdtMergeError], str]] = [
    (
        replace(GOOD, rules=(Rule("regex:(", WEIGHT),)),
        BadInputError,
        "regular expression",
    ),
    (replace(GOOD, rules=(Rule("layers:a:*", WEIGHT),)), BadInputError, "layers"),
    (replace(GOOD, pre=("shred/9",)), UpgradeNeededError, "step 'shred/9'"),
    (replace(GOOD, pre=("trim/1",)), BadInputError, "trim.density"),
    (replace(GOOD, rules=(Rule("*", (("weight", "1e9"),)),)), BadInputError, "weight"),
    (replace(GOOD, rules=(Rule("*", (("weight", "0,,1"),)),)), BadInputError, "weight"),
    (
        replace(GOOD, rules=(Rule("*", (("weight", "02"),)),)),
        BadInputError,
        "canonical",
    ),
    (replace(GOOD, strategy="melt/1"), UpgradeNeededError, "strategy 'melt/1'"),
]


@pytest.mark.parametrize(("recipe", "error", "said"), BAD)
def test_a_bad_recipe_of_a_peer_stops_no_more_than_the_merge(
    setting: Setting, recipe: Recipe, error: type[CrdtMergeError], said: str
) -> None:
    """It is shown, and refused when it is to be used; another can be set."""
    setting.contribute(0)
    with setting.fleet.open(setting.home) as (home, spaces, _):
        (space,) = spaces.all()
        signed = Replica(spaces.opset(space), home.author).set_recipe(recipe)
        spaces.publish(space, [signed])
    assert setting.status()["recipe"]["digest"] == recipe.digest.hex()
    assert setting.status()["merge_id"]
    shown = setting.call("recipe_show")
    assert shown["recipe"]["digest"] == recipe.digest.hex()
    assert "strategy:" in shown["yaml"]
    assert setting.call("log")["total"] == 4
    for verb in ("resolve", "recipe_check"):
        out = {"out": setting.folder / "out"} if verb == "resolve" else {}
        found = refused(setting, error, verb, **out)
        assert said in str(found)
    setting.call("recipe_set", strategy="linear")
    resolved(setting, "out")


@pytest.mark.parametrize(
    "models", ["", "math", "tag:", "tag:a b", "author:abcd", "content:" + "A" * 64]
)
def test_a_bad_selector_of_a_peer_is_no_record(models: str) -> None:
    """A merge id must be told of every record, so this one is never taken in."""
    value = [*GOOD.to_value()]  # type: ignore[misc]
    value[2] = [["*", [["weight", "2"]], models]]
    with pytest.raises(MalformedRecordError):
        recipe_from_value(value)


@pytest.mark.parametrize(
    "steps",
    [
        [[], []],
        [["trim/1"]],
        [["trim/1"], [], []],
        ["trim/1", []],
        [[1], []],
        [[""], []],
        [["trim/1"] * 9, []],
        [["x" * 257], []],
    ],
)
def test_steps_of_another_form_are_no_record(steps: list[object]) -> None:
    """Two lists of names, and none at all where both would be empty."""
    value = [*GOOD.to_value(), *steps]  # type: ignore[misc]
    with pytest.raises(MalformedRecordError):
        recipe_from_value(value)
