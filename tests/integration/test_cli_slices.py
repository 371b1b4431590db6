"""The command `merge` on configurations as users write them, above all with slices.

`tests/mergekit_files` holds them: those of mergekit's README, and of models that people
know. The folders they name are made here, tiny, with as many layers as the real ones.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file

from nodes import cli
from tests.vocabularies import (
    BASE_TEXT,
    DOG_TEXT,
    EMBED,
    HEAD,
    ids_of,
    trained,
    write_speaker,
)

FILES = Path(__file__).parents[1] / "mergekit_files"
PARTS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj")
STACKS = ("goliath", "solar", "block_expansion")
LAYERS = {
    "goliath": 137, "solar": 48, "block_expansion": 33, "ties_slices": 32, "slerp": 40,
    "ties": 4, "dare_ties": 4, "model_stock": 4, "linear": 4,
}  # fmt: skip
"""Layers of the output; whole models have as many as they are given here."""

Tensors = Mapping[str, np.ndarray[Any, Any]]


@dataclass
class Bench:
    """A folder of models; commands run in it."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def run(self, *words: object) -> tuple[int, dict[str, Any]]:
        """Run one command; return its exit code, and what it said."""
        self.capsys.readouterr()
        code = cli.run([*map(str, words), "--json"])
        said = self.capsys.readouterr()
        return code, json.loads(said.err if code else said.out)

    def merge(self, text: str, out: str = "out") -> dict[str, Any]:
        """Merge, which must succeed."""
        (self / "merge.yml").write_text(text)
        code, said = self.run("merge", self / "merge.yml", self / out)
        assert code == 0, said
        return said

    def refused(self, text: str) -> dict[str, Any]:
        """Merge, which must fail, and write nothing."""
        (self / "merge.yml").write_text(text)
        code, said = self.run("merge", self / "merge.yml", self / "out")
        assert code == 3
        assert not (self / "out").exists()
        error: dict[str, Any] = said["error"]
        return error

    def tensors(self, name: str) -> Tensors:
        """Return the tensors of a model."""
        found: Tensors = load_file(self / name / "model.safetensors")
        return found


@pytest.fixture
def bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Bench:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.delenv("CRDTMERGE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, capsys)


def write(folder: Path, layers: int, seed: int, **config: object) -> Path:
    """Write a model with the names of a Llama."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99)

    def some(*shape: int) -> np.ndarray[Any, Any]:
        values = base.standard_normal(shape) + rng.standard_normal(shape) / 64
        return values.astype(np.float32)

    tensors = {"model.embed_tokens.weight": some(8, 4)}
    for i in range(layers):
        tensors |= {f"model.layers.{i}.{part}.weight": some(4, 4) for part in PARTS}
    tensors |= {"model.norm.weight": some(4), "lm_head.weight": some(8, 4)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    text = json.dumps({"num_hidden_layers": layers, **config})
    (folder / "config.json").write_text(text)
    return folder


def named_in(value: Any) -> Iterator[str]:
    """Yield the models that a configuration names."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in {"model", "base_model"} and isinstance(item, str):
                yield item
            else:
                yield from named_in(item)
    if isinstance(value, list):
        for item in value:
            yield from named_in(item)


def stacked(bench: Bench, text: str, dtype: Any) -> dict[str, torch.Tensor]:
    """Return what a passthrough stack is, tensor by tensor: the oracle."""
    slices = [item["sources"][0] for item in yaml.safe_load(text)["slices"]]
    found: dict[str, torch.Tensor] = {}
    for first, name in ((True, "model.embed_tokens"), (False, "model.norm")):
        model = bench.tensors(slices[0 if first else -1]["model"])
        found[f"{name}.weight"] = torch.from_numpy(model[f"{name}.weight"])
    last = bench.tensors(slices[-1]["model"])["lm_head.weight"]
    found["lm_head.weight"] = torch.from_numpy(last)
    steps = [(s, i) for s in slices for i in range(*s["layer_range"])]
    for at, (source, i) in enumerate(steps):
        model = bench.tensors(source["model"])
        for part in PARTS:
            taken = torch.from_numpy(model[f"model.layers.{i}.{part}.weight"])
            zeros = source.get("parameters") and "self_attn.q_proj" not in part
            found[f"model.layers.{at}.{part}.weight"] = taken * (0 if zeros else 1)
    return {name: tensor.to(dtype) + 0 for name, tensor in found.items()}


@pytest.mark.parametrize("name", LAYERS)
def test_configurations_are_read_as_users_write_them(bench: Bench, name: str) -> None:
    """Each is merged, has its layers, and verifies; stacks have the very bytes."""
    text = (FILES / f"{name}.yml").read_text()
    asked = yaml.safe_load(text)
    depth = {"goliath": 80, "slerp": 40}.get(name, 32 if "slices" in asked else 4)
    for seed, model in enumerate(dict.fromkeys(named_in(asked))):
        write(bench / model, depth, seed)
    facts = bench.merge(text)
    config = json.loads((bench / "out" / "config.json").read_text())
    assert config["num_hidden_layers"] == LAYERS[name]
    assert bench.run("verify", bench / "out")[0] == 0
    from safetensors.torch import load_file as load

    made = load(bench / "out" / "model.safetensors")
    layers = {int(n.split(".")[2]) for n in made if ".layers." in n}
    assert layers == set(range(LAYERS[name]))
    if name in STACKS:
        expected = stacked(bench, text, getattr(torch, asked["dtype"]))
        assert made.keys() == expected.keys()
        for tensor, value in expected.items():
            assert torch.equal(made[tensor], value), tensor
            assert made[tensor].dtype == value.dtype
        assert len(facts["contributions"]) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("moe", "is of a configuration of mergekit-moe"),
        ("multi", "holds several documents"),
        ("evolve", "genome is of a configuration of mergekit-evolve"),
        ("hub_revision", "asks for a revision"),
    ],
)
def test_what_is_not_a_merge_is_refused_clearly(
    bench: Bench, name: str, said: str
) -> None:
    """Before a folder is looked at: none is there."""
    error = bench.refused((FILES / f"{name}.yml").read_text())
    assert said in error["message"]
    assert error["hint"]


PASS = "merge_method: passthrough\nslices:\n"
TWO = (
    PASS + "- sources: [{model: a, layer_range: [0, 2]}]\n"
    "- sources: [{model: b, layer_range: [1, 4]}]\n"
)


def test_the_record_says_which_layers_of_which_models(bench: Bench) -> None:
    """Under the content of the contribution; models by their content as a base."""
    for seed, model in enumerate("ab"):
        write(bench / model, 4, seed)
    facts = bench.merge(TWO)
    stated = json.loads((bench / "out" / "resolution.json").read_text())
    ids = {}
    for model in "ab":
        whole = f"base_model: {model}\nmodels: [{{model: {model}}}]"
        whole += "\nmerge_method: passthrough"
        ids[model] = bench.merge(whole, f"whole-{model}")["base"]
    pieces = [
        {"at": 0, "layer_range": [0, 2], "model": ids["a"]},
        {"at": 2, "layer_range": [1, 4], "model": ids["b"]},
    ]
    assert stated["made_from"] == {facts["contributions"][0]: pieces}
    card = (bench / "out" / "README.md").read_text()
    assert "a[0:2] b[1:4]" in card
    backwards = [pieces[0] | {"layer_range": [2, 0]}]
    for told, said in (
        ({"0" * 64: pieces}, "that is no part of it"),
        ({facts["contributions"][0]: backwards}, "a piece is not"),
    ):
        changed = json.dumps(stated | {"made_from": told}, sort_keys=True, indent=2)
        (bench / "out" / "resolution.json").write_text(changed + "\n")
        code, answer = bench.run("verify", bench / "out")
        assert code != 0
        assert said in answer["error"]["message"]


def test_a_base_of_slices_is_in_the_record_too(bench: Bench) -> None:
    """Where task vectors are measured from it."""
    for seed, model in enumerate(("base", "a")):
        write(bench / model, 4, seed)
    both = "{model: base, layer_range: [1, 3]}, {model: a, layer_range: [1, 3]}"
    facts = bench.merge(
        f"merge_method: ties\nbase_model: base\nslices: [{{sources: [{both}]}}]\n"
        "parameters: {weight: 1}"
    )
    stated = json.loads((bench / "out" / "resolution.json").read_text())
    assert set(stated["made_from"]) == {facts["base"], *facts["contributions"]}


def test_slices_that_move_nothing_have_the_ids_of_whole_models(bench: Bench) -> None:
    """Both forms ask for one merge, and it has one name."""
    for seed, model in enumerate(("base", "a")):
        write(bench / model, 4, seed)
    end = "merge_method: slerp\nbase_model: base\nparameters: {t: [0.25, 0.5]}\n"
    listed = "{model: base, layer_range: [0, 4]}, {model: a, layer_range: [0, 4]}"
    one = bench.merge(f"{end}slices: [{{sources: [{listed}]}}]", "one")
    two = bench.merge(f"{end}models: [{{model: base}}, {{model: a}}]", "two")
    for word in ("merge_id", "model_digest", "base"):
        assert one[word] == two[word]
    files = [(bench / out / "resolution.json").read_bytes() for out in ("one", "two")]
    assert files[0] == files[1]


def test_lists_by_layer_follow_their_layers(bench: Bench) -> None:
    """Kinds of layers, numbers of layers, and nothing that only happens to be as long."""
    kinds = ["full_attention", "sliding_attention"] * 2
    write(bench / "a", 4, 0, layer_types=kinds, mlp_only_layers=[0, 3])
    write(
        bench / "b", 4, 1, layer_types=kinds[::-1], mlp_only_layers=[2],
        eos_token_id=[1, 2, 3, 4],
    )  # fmt: skip
    bench.merge(TWO)
    config = json.loads((bench / "out" / "config.json").read_text())
    assert config == {
        "num_hidden_layers": 5,
        "layer_types": [*kinds[:2], *kinds[::-1][1:]],
        "mlp_only_layers": [0, 3],
    }
    bench.merge(TWO + "base_model: b", "other")
    config = json.loads((bench / "other" / "config.json").read_text())
    assert config["eos_token_id"] == [1, 2, 3, 4]


def test_a_config_that_counts_no_layers_is_refused(bench: Bench) -> None:
    """Nobody could load what comes out."""
    for model in "ab":
        write(bench / model, 4, 0)
        (bench / model / "config.json").write_text('{"depth": 4}')
    assert "how many layers" in bench.refused(TWO)["message"]


def test_a_stack_loads_with_transformers_and_runs(bench: Bench) -> None:
    """A Qwen of 4 layers, of two kinds, becomes one of 5; it says something."""
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        hidden_size=16, intermediate_size=24, num_attention_heads=2, vocab_size=32,
        num_key_value_heads=2, num_hidden_layers=4, use_sliding_window=True,
        max_window_layers=2, sliding_window=8, tie_word_embeddings=False,
    )  # fmt: skip
    for model in "ab":
        Qwen2ForCausalLM(config).save_pretrained(bench / model)
    bench.merge(TWO)
    load: Any = AutoModelForCausalLM.from_pretrained
    model, told = load(bench / "out", output_loading_info=True, local_files_only=True)
    assert not any(told.values()), told
    assert model.config.num_hidden_layers == len(model.config.layer_types) == 5
    kinds = config.layer_types or []
    assert model.config.layer_types == [*kinds[:2], *kinds[1:]]
    assert model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_bad_weights_are_refused_before_a_byte_is_hashed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers and the configuration say enough."""
    from nodes.operations import merging_models

    def hashed(*_: object) -> None:
        raise AssertionError("a byte was hashed")

    monkeypatch.setattr(merging_models, "_named", hashed)
    for seed, model in enumerate("ab"):
        write(bench / model, 4, seed)
    both = [
        f"{{model: {model}, layer_range: [0, 2], parameters: {{weight: {weight}}}}}"
        for model, weight in (("a", 1), ("b", -1))
    ]
    text = f"merge_method: linear\nslices: [{{sources: [{', '.join(both)}]}}]"
    assert "sum to zero" in bench.refused(text)["message"]


def test_a_stack_of_two_vocabularies_has_rows_of_one(bench: Bench) -> None:
    """Rows are aligned first, layers stacked then: embedding and head are of two models."""
    dog, zebra = trained(DOG_TEXT, 44), trained(BASE_TEXT, 40)
    for seed, (model, words) in enumerate((("dog", dog), ("zebra", zebra))):
        write_speaker(bench / model, words, seed, num_hidden_layers=1)
    text = PASS + "".join(
        f"- sources: [{{model: {model}, layer_range: [0, 1]}}]\n"
        for model in ("dog", "zebra")
    )
    assert "its vocabulary" in bench.refused(text)["message"]
    bench.merge(text + "tokenizer_source: union")
    made, ids = bench.tensors("out"), ids_of(bench / "out")
    for name, first, second in ((EMBED, "dog", "zebra"), (HEAD, "zebra", "dog")):
        for token, row in ids.items():
            own = ids_of(bench / first)
            whose = first if token in own else second
            expected = bench.tensors(whose)[name][ids_of(bench / whose)[token]]
            assert (made[name][row] == expected).all(), token
    for at, model in enumerate(("dog", "zebra")):
        expected = bench.tensors(model)["model.layers.0.mlp.weight"]
        assert (made[f"model.layers.{at}.mlp.weight"] == expected).all()
    config = json.loads((bench / "out" / "config.json").read_text())
    assert config["num_hidden_layers"] == 2
    assert config["vocab_size"] == len(ids)


# --- chat templates --------------------------------------------------------------------


def test_a_template_is_the_one_asked_for(bench: Bench) -> None:
    """Written out, or the most frequent; `base` and nothing leave the base's."""
    listed = "models: [{model: a}, {model: b}, {model: c}]\nparameters: {weight: 1}\n"
    text = f"merge_method: linear\n{listed}"
    for seed, (model, template) in enumerate((("a", "A"), ("b", "B"), ("c", "B"))):
        write(bench / model, 2, seed)
        if model == "c":
            (bench / "c" / "chat_template.jinja").write_text(template)
        else:
            said = {"chat_template": template, "model_max_length": 9}
            (bench / model / "tokenizer_config.json").write_text(json.dumps(said))
    for out, word in (("none", ""), ("base", "chat_template: base")):
        bench.merge(text + word, out)
        said = json.loads((bench / out / "tokenizer_config.json").read_text())
        assert said == {"chat_template": "A", "model_max_length": 9}
        assert not (bench / out / "chat_template.jinja").exists()
    for out, word, expected in (
        ("auto", "chat_template: auto", "B"),
        ("own", "chat_template: '{{ messages }}'", "{{ messages }}"),
    ):
        bench.merge(text + word, out)
        assert (bench / out / "chat_template.jinja").read_text() == expected
        said = json.loads((bench / out / "tokenizer_config.json").read_text())
        assert said == {"model_max_length": 9}


def test_auto_without_any_template_is_refused(bench: Bench) -> None:
    """There is nothing to choose from."""
    write(bench / "a", 2, 0)
    text = "merge_method: passthrough\nmodels: [{model: a}]\nchat_template: auto"
    assert re.search("no model has a chat template", bench.refused(text)["message"])
