"""The command `merge` with each of mergekit's methods, gradients and filters."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from crdtmerge.formats.mergekit_methods import method_names
from crdtmerge.strategies import find
from nodes import cli
from tests.homes import Fleet
from tests.merge_configurations import BASELESS, ENDS, MERGEKITS, WEIGHTED, smallest

LAYERS = 4
SHAPES = {
    "embed.weight": (6, 8),
    **{f"layers.{i}.attn.weight": (8, 8) for i in range(LAYERS)},
    **{f"layers.{i}.mlp.weight": (12, 8) for i in range(LAYERS)},
    "norm.weight": (8,),
}
Tensors: TypeAlias = Mapping[str, NDArray[Any]]
Merge: TypeAlias = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a base, two fine-tunes and a model far from them."""
    monkeypatch.delenv("CRDTMERGE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.chdir(tmp_path)
    base: Tensors = {}
    for seed, name in enumerate(("base", "a", "b", "far")):
        rng = np.random.default_rng(seed)
        noise = {n: rng.standard_normal(s) for n, s in SHAPES.items()}
        near = name in {"a", "b"}
        tensors = {
            n: (base[n] + v / 16 if near else v).astype(np.float32)
            for n, v in noise.items()
        }
        base = tensors if name == "base" else base
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def merge(folder: Path, capsys: pytest.CaptureFixture[str]) -> Merge:
    """Return what merges a configuration, which must succeed."""

    def merged(text: str, out: str = "out") -> dict[str, Any]:
        (folder / "merge.yml").write_text(text)
        capsys.readouterr()
        code = cli.run(["merge", "merge.yml", out, "--json"])
        said = capsys.readouterr()
        assert code == 0, said.err
        facts: dict[str, Any] = json.loads(said.out)
        return facts

    return merged


def tensors_of(folder: Path, name: str) -> dict[str, NDArray[np.float64]]:
    loaded = load_file(folder / name / "model.safetensors")
    return {name: values.astype(np.float64) for name, values in loaded.items()}


@pytest.mark.parametrize("method", MERGEKITS)
def test_each_method_of_mergekit_merges(
    folder: Path, merge: Merge, method: str
) -> None:
    """Its smallest configuration gives a model that loads, differs and verifies."""
    facts = merge(smallest(method))
    assert facts["recipe"]["strategy"] == f"{method}/1"
    made, base, a = (tensors_of(folder, name) for name in ("out", "base", "a"))
    assert made.keys() == base.keys()
    for name, values in made.items():
        assert np.isfinite(values).all()
        least = np.minimum(base[name], a[name]) - 1
        most = np.maximum(base[name], a[name]) + 1
        assert (least <= values).all()
        assert (values <= most).all()
    if method != "passthrough":
        assert any((made[name] != a[name]).any() for name in made)
    assert cli.run(["verify", "out"]) == 0
    again = merge(smallest(method), "again")
    assert again["model_digest"] == facts["model_digest"]


READING_NUMBERS = sorted(
    name
    for name in {*method_names()} - {*MERGEKITS}
    if find(name).scalars(find(name).defaults)
)


@pytest.mark.parametrize("method", READING_NUMBERS)
def test_what_reads_numbers_says_that_there_are_none(
    folder: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    """Files of models have none, and nobody contributed them; nothing is written."""
    text = f"merge_method: {method}\nbase_model: base\n"
    text += "models: [{model: a}, {model: b}]\n"
    (folder / "merge.yml").write_text(text)
    assert cli.run(["merge", "merge.yml", "out"]) != 0
    assert f"{method} needs its" in capsys.readouterr().err
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "method", sorted({*method_names()} - {*MERGEKITS} - {*READING_NUMBERS})
)
def test_each_strategy_of_ours_merges(folder: Path, merge: Merge, method: str) -> None:
    """In the same way, with its own words: of one model, and at the top."""
    own, models = (
        {"wsm": "step: {}", "pma": "step: {}", "layer_swap": "part: {part}"},
        [],
    )
    for i in range(7):
        tensors = load_file(folder / "ab"[i % 2] / "model.safetensors")
        rng = np.random.default_rng(i)
        near = {n: v + rng.standard_normal(v.shape) / 32 for n, v in tensors.items()}
        (folder / f"m{i}").mkdir()
        save_file(
            {n: v.astype(np.float32) for n, v in near.items()},
            folder / f"m{i}" / "model.safetensors",
        )
        (folder / f"m{i}" / "config.json").write_text("{}")
        words = own.get(method, "").format(i + 1, part=("outer", "inner")[i % 2])
        models.append(f"{{model: m{i}, parameters: {{weight: 1, {words}}}}}")
    top = "bottom: 1, top: 1, transition: 0" if method == "layer_swap" else ""
    facts = merge(
        f"merge_method: {method}\nbase_model: base\nmodels: [{', '.join(models)}]\n"
        f"parameters: {{{top}}}"
    )
    assert facts["recipe"]["strategy"] == find(method).full_name
    made, base = tensors_of(folder, "out"), tensors_of(folder, "base")
    assert all(np.isfinite(values).all() for values in made.values())
    assert any((made[name] != base[name]).any() for name in made)
    assert cli.run(["verify", "out"]) == 0


@pytest.mark.parametrize("method", sorted({*MERGEKITS} - {*BASELESS, *ENDS}))
def test_the_base_in_the_list_changes_nothing(merge: Merge, method: str) -> None:
    """Where it is what task vectors are from; models come in any order."""
    facts = merge(smallest(method))
    again = merge(smallest(method, ("b", "base", "a")), "again")
    assert again["merge_id"] == facts["merge_id"]
    assert again["model_digest"] == facts["model_digest"]


FILTERED = (
    "[{filter: mlp, value: [0.25, 0.75]}, {filter: norm, value: 1}, {value: 0.5}]"
)


@pytest.mark.parametrize("method", WEIGHTED)
def test_filtered_weights_are_those_of_merges_with_plain_ones(
    folder: Path, merge: Merge, method: str
) -> None:
    """Each tensor is that of a merge with its weights for all tensors, bit for bit."""
    text = smallest(method).replace("0.5", "%s")
    merge(text % (FILTERED, "1"))
    made = load_file(folder / "out" / "model.safetensors")
    assert cli.run(["verify", "out"]) == 0
    for part, weight, layer in (
        ("attn", "0.5", ""),
        ("embed", "0.5", ""),
        ("norm", "1", ""),
        ("mlp", "0.25", "layers.0"),
        ("mlp", "0.75", "layers.3"),
        ("mlp", "0.416666667", "layers.1"),
    ):
        merge(text % (weight, "1"), f"out-{part}-{layer}")
        plain = load_file(folder / f"out-{part}-{layer}" / "model.safetensors")
        for name in made:
            if part in name and layer in name:
                assert made[name].tobytes() == plain[name].tobytes(), name


def test_a_gradient_may_begin_at_nothing(folder: Path, merge: Merge) -> None:
    """All weights zero outside of layers and in the first: the base; then more and more."""
    merge(smallest("task_arithmetic").replace("0.5", "[0, 1]"))
    made, base, a, b = (tensors_of(folder, name) for name in ("out", "base", "a", "b"))
    for name, values in made.items():
        weight = int(name.split(".")[1]) / (LAYERS - 1) if "layers" in name else 0
        both = (a[name] - base[name]) + (b[name] - base[name])
        assert np.abs(values - (base[name] + weight * both)).max() < 1e-6
    for name in ("embed.weight", "norm.weight", "layers.0.mlp.weight"):
        assert (made[name] == base[name]).all()
    assert cli.run(["verify", "out"]) == 0


def slerp(t: float, a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Return the point on the arc from a to b, as Shoemake has it."""
    u, v = a.reshape(-1), b.reshape(-1)
    cosine = float(u @ v / np.sqrt((u @ u) * (v @ v)))
    if abs(cosine) > 0.9995:
        return (1 - t) * a + t * b
    angle = np.arccos(cosine)
    ends = np.sin((1 - t) * angle) * a + np.sin(t * angle) * b
    return np.asarray(ends / np.sin(angle))


def test_the_commonest_configuration_of_slerp(folder: Path, merge: Merge) -> None:
    """T by filters and over depth: the arc of each tensor, in float64."""
    merge(
        "merge_method: slerp\nbase_model: base\n"
        "models: [{model: base}, {model: far}]\nparameters:\n  t:\n"
        "    - filter: attn\n      value: [0, 0.5, 0.3, 0.7, 1]\n"
        "    - filter: mlp\n      value: [1, 0.5, 0.7, 0.3, 0]\n"
        "    - value: 0.5\n"
    )
    made, base, far = (tensors_of(folder, name) for name in ("out", "base", "far"))
    anchors = {"attn": [0, 0.5, 0.3, 0.7, 1], "mlp": [1, 0.5, 0.7, 0.3, 0]}
    for name, values in made.items():
        t = 0.5
        if "layers" in name:
            _, layer, kind, _ = name.split(".")
            depth = int(layer) / (LAYERS - 1)
            t = float(np.interp(depth, np.linspace(0, 1, 5), anchors[kind]))
        gap = np.abs(values - slerp(t, base[name], far[name]))
        assert gap.max() < 1e-6, (name, t)
    ends = (made["layers.0.attn.weight"], made["layers.3.attn.weight"])
    assert (ends[0] == base["layers.0.attn.weight"]).all()
    assert (ends[1] == far["layers.3.attn.weight"]).all()
    assert cli.run(["verify", "out"]) == 0


def test_rules_by_content_stand_in_the_resolution(
    folder: Path, merge: Merge, capsys: pytest.CaptureFixture[str]
) -> None:
    """A merge of own gradients names them; a changed rule is found."""
    text = smallest("ties").replace("0.5", "[0.5, 1]", 1)
    facts = merge(text)
    plain = merge(smallest("ties"), "plain")
    assert facts["merge_id"] != plain["merge_id"]
    selectors = {rule["models"] for rule in facts["recipe"]["rules"]}
    assert selectors < {f"content:{c}" for c in facts["contributions"]}
    assert len(selectors) == 1
    path = folder / "out" / "resolution.json"
    stated = path.read_text()
    assert '"0.5,1"' in stated
    assert cli.run(["verify", "out"]) == 0
    path.write_text(stated.replace('"0.5,1"', '"0.5,2"'))
    assert cli.run(["verify", "out"]) == 8
    shutil.copytree(folder / "a", folder / "twin")
    (folder / "merge.yml").write_text(text.replace("model: b,", "model: twin,"))
    capsys.readouterr()
    assert cli.run(["merge", "merge.yml", "other"]) == 3
    assert "has the tensors of another model" in capsys.readouterr().err
    assert not (folder / "other").exists()


def test_filters_and_gradients_are_the_rules_of_a_space(
    folder: Path, merge: Merge
) -> None:
    """A space with the rules that a configuration becomes makes the same bytes."""
    facts = merge(
        "merge_method: dare_ties\nbase_model: base\nmodels:\n"
        f"- {{model: a, parameters: {{weight: {FILTERED}}}}}\n"
        "- {model: b, parameters: {weight: 1, density: [0.5, 1]}}\n"
        "parameters: {normalize: [{filter: attn, value: true}]}\n"
    )
    fleet = Fleet.at(folder)
    home = fleet.init("home")
    fleet.call(home, "space_create", name="s", base=folder / "base", strategy="linear")
    for name, weight in (("a", "0.5"), ("b", "1")):
        fleet.call(home, "contribute", path=folder / name, weight=weight)
    fleet.call(
        home,
        "recipe_set",
        strategy="dare_ties",
        params=facts["recipe"]["parameters"],
        rules=[
            {"tensors": r["pattern"], "parameters": r["parameters"]}
            | ({"models": r["models"]} if "models" in r else {})
            for r in facts["recipe"]["rules"]
        ],
    )
    resolved = fleet.call(home, "resolve", out=folder / "resolved")
    assert resolved["recipe"] == facts["recipe"]
    for name in ("model_digest", "merge_id", "visible_root"):
        assert resolved[name] == facts[name]
    made, other = (
        (folder / name / "model.safetensors").read_bytes()
        for name in ("out", "resolved")
    )
    assert made == other
