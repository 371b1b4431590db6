"""Merging and contributing models of other vocabularies, by the commands.

The oracles: NumPy on the rows by token, the tokenizers library, and transformers.
"""

import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from nodes import cli
from tests.small_adapters import PREFIX, write_adapter
from tests.vocabularies import (
    BASE_TEXT,
    DOG_TEXT,
    EMBED,
    HEAD,
    TABLES,
    ids_of,
    table,
    three,
    trained,
    write_speaker,
    write_tokenizer,
)

OTHER = "{kind: model_token, model: dog, token_id: 999}"


@dataclass
class Bench:
    """A folder with a base and two models of other vocabularies."""

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
        """Merge, which must succeed, and leave nothing but the output."""
        (self.folder / "merge.yml").write_text(text)
        before = set(self.folder.iterdir())
        code, said = self.run("merge", self / "merge.yml", self / out)
        assert code == 0, said
        assert set(self.folder.iterdir()) == before | {self / out}
        return said

    def refused(self, text: str) -> dict[str, Any]:
        """Merge, which must fail, and leave everything as it was."""
        (self.folder / "merge.yml").write_text(text)
        before = set(self.folder.rglob("*"))
        code, said = self.run("merge", self / "merge.yml", self / "out")
        assert code == 3
        assert set(self.folder.rglob("*")) == before
        error: dict[str, Any] = said["error"]
        return error


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    three(tmp_path)
    return Bench(tmp_path, capsys)


def linear(*names: str, more: str = "") -> str:
    models = ", ".join(
        f"{{model: {name}, parameters: {{weight: 1}}}}" for name in names
    )
    return f"merge_method: linear\nmodels: [{models}]\n{more}"


def tied(base: str, *names: str, more: str = "") -> str:
    text = linear(*names, more=more).replace("linear", "task_arithmetic")
    return f"base_model: {base}\n{text}"


def row(folder: Path, token: str, name: str) -> np.ndarray | None:
    number = ids_of(folder).get(token)
    found = table(folder, name)
    return None if number is None or number >= len(found) else found[number]


# --- merge ---------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["base", "dog", "zebra", "union"])
def test_each_token_has_the_row_that_mergekits_rule_gives_it(
    bench: Bench, source: str
) -> None:
    """Mean of the models' own rows; who lacks one takes the others'."""
    said = bench.merge(
        linear("base", "dog", "zebra", more=f"tokenizer_source: {source}")
    )
    names, out = ("base", "dog", "zebra"), bench / "out"
    tokens = ids_of(out)
    if source == "union":
        assert tokens.keys() == {t for n in names for t in ids_of(bench / n)}
    else:
        assert tokens == ids_of(bench / source)
    for name in TABLES:
        made = table(out, name)
        assert json.loads((out / "config.json").read_text())["vocab_size"] == len(made)
        for token, number in tokens.items():
            own = [row(bench / n, token, name) for n in names]
            has = [r.astype(np.float64) for r in own if r is not None]
            stand_in = np.mean(has, axis=0).astype(np.float32)
            rows = [stand_in if r is None else r for r in own]
            wide = [r.astype(np.float64) for r in rows]
            expected = np.mean(wide, axis=0).astype(np.float32)
            assert np.allclose(made[number], expected, rtol=0, atol=1e-7), token
    assert any("lacks" in note for note in said["notes"])


def test_one_model_in_another_vocabulary_has_its_rows_byte_for_byte(
    bench: Bench,
) -> None:
    """A task vector of weight one is the model: where it lacks a token, the base."""
    bench.merge(tied("base", "dog", more="tokenizer_source: union"))
    out = bench / "out"
    for name in TABLES:
        made = table(out, name)
        for token, number in ids_of(out).items():
            own = row(bench / "dog", token, name)
            expected = row(bench / "base", token, name) if own is None else own
            assert expected is not None
            # Without the token the base takes the model's row: no task vector.
            assert made[number].tobytes() == expected.tobytes(), token


def test_passthrough_keeps_rows_and_puts_them_in_order(bench: Bench) -> None:
    """The bytes of the one model; what it lacks has the mean of its rows."""
    text = "merge_method: passthrough\nmodels: [{model: base}]\n"
    more = "tokenizer: {source: base, pad_to_multiple_of: 16}\n"
    bench.merge(text + more)
    ours, made = table(bench / "base"), table(bench / "out")
    assert len(made) == 48
    assert made[: len(ours)].tobytes() == ours.tobytes()
    mean = ours.astype(np.float64).mean(axis=0).astype(np.float32)
    for spare in made[len(ours) :]:
        np.testing.assert_array_max_ulp(spare, mean, 1)


def stack(*names: str, more: str = "") -> str:
    cuts = ", ".join(
        f"{{sources: [{{model: {name}, layer_range: [0, 1]}}]}}" for name in names
    )
    return f"merge_method: passthrough\nslices: [{cuts}]\n{more}"


@pytest.fixture
def deep(bench: Bench) -> Bench:
    """The models with the number of their layers in their configurations."""
    for name in ("base", "dog"):
        path = bench / name / "config.json"
        config = json.loads(path.read_text()) | {"num_hidden_layers": 1}
        path.write_text(json.dumps(config))
    return bench


def test_a_stack_may_have_layers_of_a_model_with_other_tokens(deep: Bench) -> None:
    """Its rows are not taken; those of one end that differ from the other's are refused."""
    deep.merge(stack("base", "dog", "base"))
    made = load_file(deep / "out" / "model.safetensors")
    ours, theirs = (
        load_file(deep / name / "model.safetensors") for name in ("base", "dog")
    )
    layer = "model.layers.{}.mlp.weight"
    assert made[HEAD].tobytes() == ours[HEAD].tobytes()
    assert made[layer.format(1)].tobytes() == theirs[layer.format(0)].tobytes()
    shutil.rmtree(deep / "out")
    error = deep.refused(stack("base", "dog"))
    assert "its vocabulary is not the base's" in error["message"]


@pytest.mark.parametrize("source", ["base", "dog", "union"])
def test_both_ends_of_a_stack_are_in_one_vocabulary(deep: Bench, source: str) -> None:
    """The embedding is the first model's, the head the last one's, each by token."""
    deep.merge(stack("base", "dog", more=f"tokenizer_source: {source}"))
    out = deep / "out"
    ids = ids_of(out)
    config = json.loads((out / "config.json").read_text())
    assert config["vocab_size"] == len(ids) == len(table(out)) == len(table(out, HEAD))
    assert config["num_hidden_layers"] == 2
    for name, own, other in ((EMBED, "base", "dog"), (HEAD, "dog", "base")):
        for token, number in ids.items():
            expected = row(deep / own, token, name)
            if expected is None:
                expected = row(deep / other, token, name)
            assert expected is not None
            assert table(out, name)[number].tobytes() == expected.tobytes(), token


def test_models_of_one_slice_stand_in_for_each_other_first(deep: Bench) -> None:
    """As in mergekit; where these have no row it has zeros, and others stand in here."""
    path = deep / "zebra" / "config.json"
    config = json.loads(path.read_text()) | {"num_hidden_layers": 1}
    path.write_text(json.dumps(config))
    own = "layer_range: [0, 1], parameters: {weight: 1}"
    deep.merge(
        "merge_method: linear\nslices:\n"
        f"- sources: [{{model: base, {own}}}, {{model: dog, {own}}}]\n"
        f"- sources: [{{model: base, {own}}}, {{model: zebra, {own}}}]\n"
        "tokenizer_source: union\n"
    )
    made, ids = table(deep / "out"), ids_of(deep / "out")
    names, seen = ("base", "dog", "zebra"), 0
    for token, number in ids.items():
        base, dog, zebra = (row(deep / n, token, EMBED) for n in names)
        if base is None and dog is not None:
            # The base takes the dog's row, whatever the zebra has: that is in no slice
            # with the embedding.
            assert made[number].tobytes() == dog.tobytes(), token
            seen += zebra is not None
        if base is None and dog is None:
            assert zebra is not None
            assert made[number].tobytes() == zebra.tobytes(), token
    assert seen


def test_what_a_killed_merge_left_goes_with_the_next(bench: Bench) -> None:
    """Its aligned rows lie where its output would have come to be."""
    left = bench / ".out.partial-1-1-0"
    (left / "new").mkdir(parents=True)
    (left / "new" / "aligned").write_bytes(bytes(99))
    (bench / "merge.yml").write_text(
        linear("base", "dog", more="tokenizer_source: base")
    )
    code, _ = bench.run("merge", bench / "merge.yml", bench / "out")
    assert code == 0
    assert not left.exists()


def test_a_disk_without_room_for_aligned_rows_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The space is claimed before a row is written."""

    def full(_file: int, size: int) -> None:
        assert size
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("crdtmerge.formats.alignment.reserve", full)
    (bench / "merge.yml").write_text(
        linear("base", "dog", more="tokenizer_source: base")
    )
    before = set(bench.folder.rglob("*"))
    code, said = bench.run("merge", bench / "merge.yml", bench / "out")
    assert code == 6
    assert "the disk is full" in said["error"]["message"]
    assert set(bench.folder.rglob("*")) == before


def test_the_order_of_the_list_changes_nothing(bench: Bench) -> None:
    """Where mergekit's union changes from run to run."""
    names = ("base", "dog", "zebra")
    for out, order in (("one", names), ("two", ("base", "zebra", "dog"))):
        text = linear(*order, more="tokenizer_source: union").replace(
            "linear", "linear\nbase_model: base"
        )
        bench.merge(text, out)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (bench / "one" / name).read_bytes() == (
            bench / "two" / name
        ).read_bytes()


def test_tokens_take_the_rows_that_are_asked_for(bench: Bench) -> None:
    """Of a model, of another token, zeros; by force for all."""
    bench.merge(
        linear(
            "base",
            "dog",
            more="tokenizer:\n  source: union\n  tokens:\n"
            "    cat: {source: dog, force: true}\n"
            "    '<|new|>': {source: {kind: model_token, model: base, token: hello}}\n"
            "    '<|id|>': {source: {kind: model_token, model: dog, token_id: 5}}\n"
            "    '<|none|>': {source: {kind: zero}}\n",
        )
    )
    made, ids = table(bench / "out"), ids_of(bench / "out")
    wanted = {
        "cat": row(bench / "dog", "cat", EMBED),
        "<|new|>": row(bench / "base", "hello", EMBED),
        "<|id|>": table(bench / "dog")[5],
        "<|none|>": np.zeros(8, np.float32),
    }
    for token, expected in wanted.items():
        assert expected is not None
        assert made[ids[token]].tobytes() == expected.tobytes(), token


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("tokenizer_source: nowhere", "not one of the models"),
        ("tokenizer: {source: base, tokens: {x: {force: true}}}", "has no source"),
        ("tokenizer: {source: base, tokens: {x: {source: dog}}}", "no row for 'x'"),
        (
            f"tokenizer: {{tokens: {{x: {{source: {OTHER}}}}}}}",
            "no row for id 999",
        ),
        ("tokenizer: {tokens: {x: {source: {kind: magic}}}}", "none of model_token"),
        ("tokenizer: {pad_to_multiple_of: 0}", "from 1 to"),
        ("tokenizer: {size: 3}", "'size' is not known"),
        ("tokenizer: {}\ntokenizer_source: base", "both given"),
        ("tokenizer_source: dog+adapter", "no vocabulary of its own"),
    ],
)
def test_what_has_no_meaning_is_refused_before_anything_is_read(
    bench: Bench, more: str, why: str
) -> None:
    """With its place in the file, and nothing left behind."""
    assert why in bench.refused(linear("base", "dog", more=more))["message"]


def test_models_of_other_sizes_are_refused_without_a_word(bench: Bench) -> None:
    """And the way out is named; never are rows cut off."""
    error = bench.refused(linear("base", "dog"))
    assert "'dog'" in error["message"]
    assert "its vocabulary is not the base's: 44 rows, there 37" in error["message"]
    assert "tokenizer_source: base" in error["hint"]


def test_tokens_in_another_order_are_refused_though_all_shapes_fit(
    bench: Bench,
) -> None:
    """Rows of one number would mean two tokens."""
    for i, text in enumerate((BASE_TEXT, DOG_TEXT)):
        write_speaker(bench / f"m{i}", trained(text, 30), i)
    error = bench.refused(linear("m0", "m1"))
    assert "its vocabulary is not the base's: " in error["message"]
    assert "tokenizer_source" in error["hint"]
    bench.merge(linear("m0", "m1", more="tokenizer_source: base"))


def test_an_unused_row_that_one_model_has_a_token_for_is_no_difference(
    bench: Bench,
) -> None:
    """As where a fine-tune names a spare row of its base."""
    write_speaker(bench / "m0", trained(BASE_TEXT, 30), 1, rows=34)
    write_speaker(bench / "m1", trained(BASE_TEXT, 30, ["<|im|>"]), 2, rows=34)
    bench.merge(linear("m0", "m1"))


def test_a_tokenizer_without_ids_is_refused_where_rows_are_aligned(
    bench: Bench,
) -> None:
    """SentencePiece alone; the hint says how to save it."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bench / "dog" / name).unlink()
    (bench / "dog" / "tokenizer.model").write_bytes(b"\x0a")
    error = bench.refused(linear("base", "dog", more="tokenizer_source: base"))
    assert "without tokenizer.json" in error["message"]
    assert "save_pretrained" in error["hint"]


def test_token_ids_of_the_configuration_go_with_the_tokenizer(bench: Bench) -> None:
    """Where mergekit leaves the ids of another vocabulary there."""
    dog = ids_of(bench / "dog")
    config = {"vocab_size": 44, "bos_token_id": 0, "eos_token_id": dog["<|im_end|>"]}
    (bench / "dog" / "config.json").write_text(json.dumps(config))
    pad = ids_of(bench / "base")["cat"]
    for name, more in (
        ("config.json", {"vocab_size": 37}),
        ("generation_config.json", {}),
    ):
        ids = {"eos_token_id": 1, "pad_token_id": pad}
        (bench / "base" / name).write_text(json.dumps(more | ids))
    bench.merge(tied("base", "dog", more="tokenizer_source: dog"))
    made = json.loads((bench / "out" / "config.json").read_text())
    assert made["vocab_size"] == 44
    assert made["eos_token_id"] == dog["<|im_end|>"]
    assert made["pad_token_id"] == dog["cat"]
    made = json.loads((bench / "out" / "generation_config.json").read_text())
    assert made == {"eos_token_id": 1, "pad_token_id": dog["cat"]}
    names = ("tokenizer.json", "tokenizer_config.json")
    for name in names:
        assert (bench / "out" / name).read_bytes() == (
            bench / "dog" / name
        ).read_bytes()


def test_an_adapter_of_rows_that_moved_is_refused(bench: Bench) -> None:
    """One of other tensors changes the base as it always does."""
    draw = np.random.default_rng(3)
    for name, layer, shapes in (
        ("layer", "model.layers.0.mlp", ((2, 8), (8, 2))),
        ("head", "lm_head", ((2, 8), (37, 2))),
    ):
        pairs = zip("AB", shapes, strict=True)
        weights = {
            f"{PREFIX}{layer}.lora_{part}.weight": draw.standard_normal(s, np.float32)
            for part, s in pairs
        }
        write_adapter(bench / name, weights, target_modules=[layer])
    order = json.loads((bench / "base" / "tokenizer.json").read_text())
    shutil.copytree(bench / "base", bench / "turned")
    vocab = order["model"]["vocab"]
    vocab["cat"], vocab["mat"] = vocab["mat"], vocab["cat"]
    (bench / "turned" / "tokenizer.json").write_text(json.dumps(order))
    more = "tokenizer_source: turned"
    bench.merge(tied("base", "turned", "base+layer", more=more))
    shutil.rmtree(bench / "out")
    error = bench.refused(tied("base", "turned", "base+head", more=more))
    assert (
        "the adapter changes 'lm_head.weight', whose rows are aligned"
        in error["message"]
    )


def test_added_tokens_are_told_in_both_files(bench: Bench) -> None:
    """A tokenizer's configuration may repeat them."""
    for name in ("base", "dog"):
        path = bench / name / "tokenizer_config.json"
        told = {"added_tokens_decoder": {"0": {"content": "<s>"}}}
        path.write_text(json.dumps(json.loads(path.read_text()) | told))
    bench.merge(linear("base", "dog", more="tokenizer_source: union"))
    made = json.loads((bench / "out" / "tokenizer_config.json").read_text())
    added = {t["content"]: int(i) for i, t in made["added_tokens_decoder"].items()}
    ids = ids_of(bench / "out")
    assert added == {token: ids[token] for token in added}
    assert {"<|pad|>", "<|im_start|>", "<|im_end|>"} <= added.keys()


def test_older_forms_of_a_tokenizer_do_not_go_with_a_new_one(bench: Bench) -> None:
    """They would say otherwise; a note names them."""
    (bench / "base" / "vocab.json").write_text("{}")
    said = bench.merge(linear("base", "dog", more="tokenizer_source: union"))
    assert not (bench / "out" / "vocab.json").exists()
    assert "left out with the base's tokenizer: vocab.json" in said["notes"]


def test_contribute_takes_the_policy_from_its_option(bench: Bench) -> None:
    """Refused without it."""
    home = ("--home", bench / "home")
    assert bench.run("init", *home)[0] == 0
    create = ("space", "create", "s", "--base", bench / "base", "--strategy", "linear")
    assert bench.run(*create, *home)[0] == 0
    code, said = bench.run("contribute", bench / "dog", *home)
    assert code == 3
    assert "--vocabulary align" in said["error"]["hint"]
    code, said = bench.run("contribute", bench / "dog", "--vocabulary", "align", *home)
    assert code == 0
    assert any("dropped" in note for note in said["notes"])


def test_files_of_the_base_stay_as_they_are_if_its_vocabulary_does(
    bench: Bench,
) -> None:
    """Byte for byte; its rows are where they were."""
    bench.merge(tied("base", "dog", more="tokenizer_source: base"))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        ours, made = (bench / folder / name for folder in ("base", "out"))
        assert made.read_bytes() == ours.read_bytes()
    assert table(bench / "out").shape == table(bench / "base").shape


def test_transformers_loads_and_speaks_what_was_merged(bench: Bench) -> None:
    """A tiny Llama with tied tables: the oracle for files, ids and rows."""
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        LlamaConfig,
        LlamaForCausalLM,
    )

    for seed, name in enumerate(("base", "dog", "zebra")):
        tokens = len(ids_of(bench / name))
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=tokens, hidden_size=16, intermediate_size=24,
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
            bos_token_id=0, eos_token_id=1, tie_word_embeddings=True,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(bench / f"l-{name}")
        write_tokenizer(bench / f"l-{name}", trained(BASE_TEXT, 4))
        text = (bench / name / "tokenizer.json").read_bytes()
        (bench / f"l-{name}" / "tokenizer.json").write_bytes(text)
    bench.merge(tied("l-base", "l-dog", "l-zebra", more="tokenizer_source: union"))
    out = bench / "out"
    tokenizer: Any = AutoTokenizer.from_pretrained(out)
    model: Any = AutoModelForCausalLM.from_pretrained(out)
    rows = model.get_input_embeddings().weight
    assert tokenizer.get_vocab() == ids_of(out)
    assert len(tokenizer) == rows.shape[0] == model.config.vocab_size
    for token, only in (("<|im_end|>", "l-dog"), ("Ġquick", "l-zebra")):
        theirs: Any = AutoModelForCausalLM.from_pretrained(bench / only)
        number = AutoTokenizer.from_pretrained(bench / only).get_vocab()[token]
        expected = theirs.get_input_embeddings().weight[number]
        assert torch.equal(rows[tokenizer.get_vocab()[token]], expected)
    ids = tokenizer("the quick dog<|im_end|>", return_tensors="pt").input_ids
    assert tokenizer.decode(ids[0]) == "the quick dog<|im_end|>"
    assert torch.isfinite(model(ids).logits).all()
