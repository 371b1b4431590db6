"""Small models with real tokenizers of several vocabularies.

The oracle for a vocabulary is the `tokenizers` library itself: what it gives a token.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
TABLES = (EMBED, HEAD)
WIDTH = 8

BASE_TEXT = ("hello world the cat sat on the mat",)
DOG_TEXT = ("the dog ran over hills and hello cat",)
ZEBRA_TEXT = ("hello world the cat sat on the mat", "zebra quick")

Table = NDArray[np.float32]


def trained(
    text: Sequence[str], size: int, added: Sequence[str] = (), words: Any = None
) -> Tokenizer:
    """Return a byte-level BPE tokenizer, with special tokens `added` behind its words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = words or pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<s>", "</s>"], show_progress=False
    )
    tokenizer.train_from_iterator(list(text) * 5, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in added])
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Save a tokenizer as `save_pretrained` does, without the import."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_speaker(
    folder: Path, tokenizer: Tokenizer, seed: int, rows: int = 0, **more: object
) -> Path:
    """Write a model with an embedding, a head, a layer and a tokenizer."""
    write_tokenizer(folder, tokenizer)
    rows = rows or tokenizer.get_vocab_size()
    draw = np.random.default_rng(seed)
    shapes = {
        EMBED: (rows, WIDTH),
        HEAD: (rows, WIDTH),
        "model.layers.0.mlp.weight": (WIDTH, WIDTH),
        "model.norm.weight": (WIDTH,),
    }
    tensors = {
        name: draw.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors")
    config = {"vocab_size": rows, "bos_token_id": 0, "eos_token_id": 1, **more}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def ids_of(folder: Path) -> dict[str, int]:
    """Return the ids by token, as the library has them."""
    found: dict[str, int] = Tokenizer.from_file(
        str(folder / "tokenizer.json")
    ).get_vocab()
    return found


def table(folder: Path, name: str = EMBED) -> Table:
    """Return a table of a model."""
    found: Table = load_file(folder / "model.safetensors")[name]
    return found


def three(folder: Path) -> tuple[Path, Path, Path]:
    """Write a base and two models of other vocabularies; the last has spare rows."""
    base = trained(BASE_TEXT, 40, ["<|pad|>"])
    dog = trained(DOG_TEXT, 44, ["<|im_start|>", "<|im_end|>"])
    zebra = trained(ZEBRA_TEXT, 50)
    return (
        write_speaker(folder / "base", base, 1),
        write_speaker(folder / "dog", dog, 2),
        write_speaker(folder / "zebra", zebra, 3, rows=zebra.get_vocab_size() + 6),
    )
