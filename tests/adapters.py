"""Real adapters for tests: small models of real architectures, adapted by PEFT itself.

PEFT is the oracle: what its own `merge_and_unload` makes of a model and an adapter.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]


def gpt2(folder: Path, seed: int = 0, **options: Any) -> Path:
    """Save a base whose layers keep weights as (in, out)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        n_layer=1, n_head=2, n_embd=16, vocab_size=32, n_positions=16,
        bos_token_id=0, eos_token_id=0, **options,
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
    return adapt_module(load(base), folder, seed, **options)


def adapt_module(module: Any, folder: Path, seed: int, **options: Any) -> Path:
    """Save a random adapter of a model in memory."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    options = {"init_lora_weights": False, **options}
    model: Any = get_peft_model(module, LoraConfig(**options))
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
    return merged_module(load(base), adapter)


def merged_module(module: Any, adapter: Path) -> Tensors:
    """Return the tensors of a model with the adapter merged in, by PEFT."""
    from peft import PeftModel

    model: Any = PeftModel.from_pretrained(module, str(adapter))
    merged = model.merge_and_unload()
    return {name: tensor.detach() for name, tensor in merged.state_dict().items()}


def save_delta(folder: Path, shapes: Mapping[str, Sequence[int]]) -> Path:
    """Save differences that are a few directions strong."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / 8

    folder.mkdir()
    tensors = {n: drawn(s[0], 3) @ drawn(3, s[1]) for n, s in shapes.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder


class Block(torch.nn.Module):
    """A convolution named as the one outside, of other channels, and its statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(8, 6, 3)
        self.bn = torch.nn.BatchNorm2d(6)


class Net(torch.nn.Module):
    """A small network of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 8, 1)
        self.block = Block()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what it makes of an image."""
        out: torch.Tensor = self.block.bn(self.block.conv1(self.conv1(x)))
        return out


def convolutions(folder: Path) -> tuple[Path, Callable[[], Net]]:
    """Save a network of convolutions; return what makes it again."""
    torch.manual_seed(0)
    state = Net().state_dict()
    folder.mkdir()
    save_file(state, folder / "model.safetensors")

    def again() -> Net:
        net = Net()
        net.load_state_dict(state)
        return net

    return folder, again


def tensors_of(folder: Path) -> Tensors:
    """Return the tensors of a model folder."""
    return load_file(folder / "model.safetensors")
