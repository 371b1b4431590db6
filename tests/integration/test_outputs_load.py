"""Outputs are what transformers and PEFT load as they are, byte for byte."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from crdtmerge.formats.folder import MODEL_FILE
from crdtmerge.formats.shards import INDEX_FILE
from nodes import cli
from tests import adapters, causal
from tests.homes import Fleet

pytestmark = pytest.mark.filterwarnings("ignore")

CONFIGURATION = (
    "merge_method: linear\nmodels:\n"
    "- {model: org/base, parameters: {weight: 1}}\n"
    "- {model: org/tune, parameters: {weight: 1}}\n"
)


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in the files, as the format's own library reads them."""
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found


def same_bytes(found: torch.Tensor, expected: torch.Tensor) -> bool:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    flat = [t.detach().contiguous().reshape(-1) for t in (found, expected)]
    return torch.equal(*(t.view(torch.uint8) for t in flat))


def loaded(folder: Path, caplog: pytest.LogCaptureFixture) -> Any:
    """Load with no word on dtype or class; nothing is missing, nothing is complained of."""
    from transformers import AutoModelForCausalLM

    caplog.clear()
    logger = logging.getLogger("transformers")  # it does not pass on what it hears
    logger.addHandler(caplog.handler)
    try:
        load: Any = AutoModelForCausalLM.from_pretrained
        model, told = load(folder, output_loading_info=True, local_files_only=True)
    finally:
        logger.removeHandler(caplog.handler)
    assert not any(told.values()), told
    assert not caplog.records
    return model


def check_loads(folder: Path, caplog: pytest.LogCaptureFixture) -> Any:
    """Check that what is loaded is what is stored, and that tied weights are one."""
    model = loaded(folder, caplog)
    state = model.state_dict()
    files = stored(folder)
    for name, tensor in files.items():
        assert same_bytes(state[name], tensor), name
    unstored = state.keys() - files.keys()
    if model.config.tie_word_embeddings:
        assert unstored == {"lm_head.weight"}
        assert model.lm_head.weight is model.get_input_embeddings().weight
    else:
        assert not unstored
    return model


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (causal.llama(), torch.bfloat16),
        (causal.llama(tied=True), torch.float32),
        (causal.gpt2(), torch.float16),
    ],
    ids=["llama", "tied llama", "gpt2"],
)
def test_a_merge_loads_with_transformers_whole_and_in_shards(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    make: causal.Make,
    dtype: torch.dtype,
) -> None:
    """Model, tokenizer, chat template and generation settings come along."""
    from transformers import AutoTokenizer

    for seed, name in enumerate(("base", "tune")):
        causal.save(tmp_path / "org" / name, make, seed, dtype)
    (tmp_path / "m.yml").write_text(CONFIGURATION)
    for out, words in (("one", []), ("many", ["--shard-size", "4kB"])):
        argv = ["merge", str(tmp_path / "m.yml"), str(tmp_path / out), *words]
        assert cli.run(argv) == 0
    assert (tmp_path / "one" / MODEL_FILE).exists()
    assert (tmp_path / "many" / INDEX_FILE).exists()
    one, many = stored(tmp_path / "one"), stored(tmp_path / "many")
    assert one.keys() == many.keys() == stored(tmp_path / "org" / "base").keys()
    assert all(same_bytes(one[name], many[name]) for name in one)
    base = tmp_path / "org" / "base"
    for out in ("one", "many"):
        model = check_loads(tmp_path / out, caplog)
        assert model.dtype == dtype
        assert model.generation_config.max_length == 13
        ours = AutoTokenizer.from_pretrained(tmp_path / out, local_files_only=True)
        theirs = AutoTokenizer.from_pretrained(base, local_files_only=True)
        chat = [{"role": "user", "content": "w3 w4 nothing"}]
        assert ours.apply_chat_template(chat) == theirs.apply_chat_template(chat)
        with torch.no_grad():
            assert model(torch.tensor([[3, 4]])).logits.isfinite().all()
        config = (tmp_path / out / "config.json").read_bytes()
        assert config == (base / "config.json").read_bytes()
        card = ModelCard.load(tmp_path / out / "README.md").data.to_dict()
        assert sorted(card["base_model"]) == ["org/base", "org/tune"]
        assert cli.run(["verify", str(tmp_path / out)]) == 0


@pytest.mark.parametrize("word", ["float32", "bfloat16", "float16"])
def test_the_dtype_of_the_recipe_is_the_one_that_is_loaded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, word: str
) -> None:
    """The base's config would have named another."""
    for seed, name in enumerate(("base", "tune")):
        causal.save(tmp_path / "org" / name, causal.llama(), seed, torch.bfloat16)
    (tmp_path / "m.yml").write_text(f"{CONFIGURATION}dtype: {word}\n")
    out = tmp_path / "out"
    assert cli.run(["merge", str(tmp_path / "m.yml"), str(out)]) == 0
    assert check_loads(out, caplog).dtype == getattr(torch, word)
    told = [
        json.loads((d / "config.json").read_text())
        for d in (out, tmp_path / "org/base")
    ]
    assert told[0].pop("dtype") == word
    assert told[1].pop("dtype") == "bfloat16"
    assert told[0] == told[1]


def test_a_model_of_8_bit_floats_is_loaded_in_the_dtype_of_the_base(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Transformers cannot compute in them; it casts each weight, exactly."""
    for seed, name in enumerate(("base", "tune")):
        causal.save(tmp_path / "org" / name, causal.llama(), seed, torch.bfloat16)
    (tmp_path / "m.yml").write_text(f"{CONFIGURATION}dtype: float8_e4m3fn\n")
    out = tmp_path / "out"
    assert cli.run(["merge", str(tmp_path / "m.yml"), str(out)]) == 0
    state = loaded(out, caplog).state_dict()
    for name, tensor in stored(out).items():
        assert tensor.dtype == torch.float8_e4m3fn
        assert same_bytes(state[name], tensor.to(torch.bfloat16)), name


def test_replicas_write_the_same_card_and_the_model_loads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two homes, their records and models in other places: equal folders."""
    base = causal.save(tmp_path / "base", causal.llama(), 0, torch.bfloat16)
    tunes = [
        causal.save(tmp_path / f"t{i}", causal.llama(), i, torch.bfloat16)
        for i in (1, 2)
    ]
    fleet = Fleet.at(tmp_path)
    one = fleet.init("one")
    fleet.call(one, "space_create", name="sp`ace", base=base, strategy="linear")
    for i, tune in enumerate(tunes):
        fleet.call(one, "contribute", path=tune, note=f"note {i} <b>")
    archive = tmp_path / "space.tar"
    fleet.call(one, "space_export", space="sp`ace", file=archive)
    two = fleet.init("two")
    fleet.call(two, "space_import", file=archive, base=base)
    outs = []
    for i, home in enumerate((one, two)):
        outs.append(tmp_path / f"deep{i}" / "out")
        facts = fleet.call(home, "resolve", out=outs[i], shard_size=4000)
        assert facts["shards"] == len(list(outs[i].glob("*.safetensors"))) > 1
        assert facts["card"] == str(outs[i] / "README.md")
    contents = [{p.name: p.read_bytes() for p in out.iterdir()} for out in outs]
    assert contents[0] == contents[1]
    card = contents[0]["README.md"].decode()
    assert "`note 0 <b>`" in card
    assert str(tmp_path) not in card
    check_loads(outs[0], caplog)


def test_an_adapter_loads_with_peft_as_it_is(tmp_path: Path) -> None:
    """The tensors that PEFT holds are those in the file; the card is for PEFT."""
    from peft import PeftModel, get_peft_model_state_dict

    base = adapters.gpt2(tmp_path / "base")
    options: dict[str, Any] = {
        "r": 4,
        "target_modules": ["c_attn"],
        "fan_in_fan_out": True,
    }
    fleet = Fleet.at(tmp_path)
    home = fleet.init("home")
    fleet.call(home, "space_create", name="s", base=base, strategy="linear")
    for seed in (1, 2):
        path = adapters.adapt(base, tmp_path / f"a{seed}", seed, **options)
        fleet.call(home, "contribute", path=path, note=f"adapter {seed}")
    out = tmp_path / "out"
    facts = fleet.call(home, "resolve", out=out, **{"as": "adapter"})
    assert (facts["shards"], facts["card"]) == (1, str(out / "README.md"))
    model: Any = PeftModel.from_pretrained(adapters.load(base), str(out))
    state = get_peft_model_state_dict(model)
    expected = load_file(out / "adapter_model.safetensors")
    assert state.keys() == expected.keys()
    assert all(same_bytes(state[name], expected[name]) for name in expected)
    card = ModelCard.load(out / "README.md")
    assert card.data.to_dict()["library_name"] == "peft"
    assert "adapter 2" in str(card)
