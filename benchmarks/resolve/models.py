"""Llama-shaped models of random weights, a base and fine-tunes near it, on disk.

Owns their shapes and bytes. Does not own what is measured on them (`command`). A model
that is there already is taken as it is: its folder is named after its size.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crdtmerge.formats.shards import lay_out_file
from crdtmerge.formats.writer import ModelWriter, create_files
from crdtmerge.numerics import downcast

NAMES = ("base", "a", "b", "c")


@dataclass(frozen=True)
class Sizes:
    """The sizes of a Llama; `key` of its key and value heads together."""

    hidden: int
    inner: int
    layers: int
    words: int
    heads: int = 12
    key_heads: int = 4

    @property
    def key(self) -> int:
        """The width of keys and values."""
        return self.hidden // self.heads * self.key_heads

    @property
    def parameters(self) -> int:
        """How many items all tensors have."""
        return sum(int(np.prod(shape)) for _, shape in shapes(self))


ISSUE = Sizes(1536, 4096, 16, 32000)
"""501 million parameters: 1.0 GB in BF16."""
SMALL = Sizes(96, 256, 2, 512)
"""For the time that a command takes before it does anything."""
LARGE = Sizes(4096, 11008, 24, 32000, heads=32, key_heads=32)
"""5.1 billion parameters: 10.2 GB in BF16."""


def shapes(sizes: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of each tensor."""
    hidden, inner, key = sizes.hidden, sizes.inner, sizes.key
    yield "model.embed_tokens.weight", (sizes.words, hidden)
    for layer in range(sizes.layers):
        place = f"model.layers.{layer}."
        yield f"{place}self_attn.q_proj.weight", (hidden, hidden)
        yield f"{place}self_attn.k_proj.weight", (key, hidden)
        yield f"{place}self_attn.v_proj.weight", (key, hidden)
        yield f"{place}self_attn.o_proj.weight", (hidden, hidden)
        yield f"{place}mlp.gate_proj.weight", (inner, hidden)
        yield f"{place}mlp.up_proj.weight", (inner, hidden)
        yield f"{place}mlp.down_proj.weight", (hidden, inner)
        yield f"{place}input_layernorm.weight", (hidden,)
        yield f"{place}post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (sizes.words, hidden)


def make_models(folder: Path, sizes: Sizes, names: tuple[str, ...] = NAMES) -> Path:
    """Write models of these sizes, those that are not there yet; return their folder."""
    place = folder / f"llama-{sizes.parameters}"
    for name in names:
        if not (place / name / "config.json").exists():
            _make(place / name, sizes, names.index(name))
    return place


def _make(folder: Path, sizes: Sizes, tune: int) -> None:
    """Write one model: the base's weights, and steps of its own if it is tuned."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    path.unlink(missing_ok=True)
    entries = [(name, "BF16", shape) for name, shape in shapes(sizes)]
    layout = lay_out_file(path.name, entries)
    create_files(folder, layout)
    with ModelWriter(folder, layout) as writer:
        for number, (name, shape) in enumerate(shapes(sizes)):
            items = int(np.prod(shape))
            values = np.random.default_rng(number).standard_normal(items, np.float32)
            values *= np.float32(0.02)
            if tune:
                rng = np.random.default_rng((number, tune))
                step = rng.standard_normal(items, np.float32)
                values += step * np.float32(0.001)
            writer.write(name, downcast(values.astype(np.float64), "BF16"))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.inner,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.key_heads,
        "num_hidden_layers": sizes.layers,
        "vocab_size": sizes.words,
        "max_position_embeddings": 2048,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
