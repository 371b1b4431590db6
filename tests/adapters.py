"""Real adapters for tests: small models of real architectures, adapted by PEFT itself.

PEFT is the oracle: what its own `merge_and_unload` makes of a model and an adapter.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def quiet() -> None:
    """Let the model libraries warn about what is not ours."""
    warnings.simplefilter("ignore")


def gpt2(folder: Path, seed: int = 0) -> Path:
    """Save a base whose layers keep weights as (in, out)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        n_layer=1, n_head=2, n_embd=16, vocab_size=32, n_positions=16,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def bert(folder: Path, seed: int = 0) -> Path:
    """Save a base with a classification head."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        num_hidden_layers=2, hidden_size=16, num_attention_heads=2,
        intermediate_size=32, vocab_size=32, max_position_embeddings=16,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    """Load a saved base as its own class."""
    import transformers

    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    return getattr(transformers, name).from_pretrained(folder)


def adapt(base: Path, folder: Path, seed: int, **options: Any) -> Path:
    """Save a random adapter of `base`, made by PEFT with these options."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    options = {"init_lora_weights": False, **options}
    model: Any = get_peft_model(load(base), LoraConfig(**options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_" not in name:
                parameter.add_(torch.randn_like(parameter) / 16)  # biases and heads
            elif parameter.requires_grad:
                parameter.div_(4)
    model.save_pretrained(str(folder))
    return folder


def merged_by_peft(base: Path, adapter: Path) -> Tensors:
    """Return the tensors of the base with the adapter merged in, by PEFT."""
    from peft import PeftModel

    model: Any = PeftModel.from_pretrained(load(base), str(adapter))
    merged = model.merge_and_unload()
    return {name: tensor.detach() for name, tensor in merged.state_dict().items()}


def tensors_of(folder: Path) -> Tensors:
    """Return the tensors of a model folder."""
    return load_file(folder / "model.safetensors")


def rewrite(adapter: Path, folder: Path, /, **changed: Any) -> Path:
    """Copy an adapter with keys of its config changed."""
    folder.mkdir()
    config = json.loads((adapter / "adapter_config.json").read_text()) | changed
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(
        load_file(adapter / "adapter_model.safetensors"),
        folder / "adapter_model.safetensors",
    )
    return folder
