"""Adapters as PEFT saves them: `adapter_config.json` beside the weights.

The weights are `adapter_model.safetensors`, or the `adapter_model.bin` of older ones.
Owns reading such a folder, refusing by name what is no plain LoRA, and finding the base's
tensors under the names of an adapter. Does not own what a pair means (`changes`), nor
writing (`adapter_output`).

Facts about the form, seen in files of PEFT 0.21: names begin with `base_model.model.`;
`X.lora_A.weight` and `X.lora_B.weight` are the factors of `X.weight`, of an embedding
`X.lora_embedding_A` and `_B`; the scale is alpha / r, with rsLoRA alpha / sqrt(r), where
`rank_pattern` and `alpha_pattern` override by patterns that end a module's name. Trained
biases are saved as `X.bias` or `X.base_layer.bias`, heads as `X.weight`; beside a head
with `bias="all"` stand `X.modules_to_save.bias`, the same again, and
`X.original_module.bias`, which is the base's.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from crdtmerge.changes import PAIR_SUFFIXES
from crdtmerge.errors import BadInputError
from crdtmerge.formats.adapter_config import AdapterConfig, read_config
from crdtmerge.formats.header import StoredTensor, read_header
from crdtmerge.formats.pickled import read_pickled
from crdtmerge.layers import FAN_IN, LINEAR, layers_of
from crdtmerge.manifest import Manifest

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
PICKLED_FILE: Final = "adapter_model.bin"
NAME_PREFIX: Final = "base_model.model."
PREFIX_PARTS_MAX: Final = 3
"""Leading parts by which the names of adapter and base may differ (`bert.`, `model.`)."""

_FACTOR: Final = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
_EMBEDDING: Final = re.compile(r"(.+)\.lora_embedding_([AB])(?:\.default)?")
_DORA: Final = "lora_magnitude_vector"
_COPY: Final = ".modules_to_save."
_ORIGINAL: Final = ".original_module."
_INNER: Final = ".base_layer."


@dataclass(frozen=True, slots=True)
class Pair:
    """The factors of one weight, as they lie in the file, and their scale."""

    a: StoredTensor
    b: StoredTensor
    scale: float
    is_embedding: bool

    def turned(self, shape: tuple[int, ...]) -> bool:
        """Tell whether the weight can only be kept as (in, out)."""
        flipped = (self.a.shape[-1], self.b.shape[0])
        return not self.square and len(self.a.shape) == 2 and shape == flipped

    @property
    def square(self) -> bool:
        """Tell whether the product has as many rows as columns."""
        return len(self.a.shape) == 2 and self.a.shape[-1] == self.b.shape[0]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter on disk: its pairs and its whole tensors, by the names of weights.

    `copies` are (kept, copied) tensors that must have the same bytes.
    """

    path: Path
    config: AdapterConfig
    pairs: Mapping[str, Pair]
    whole: Mapping[str, StoredTensor]
    copies: tuple[tuple[StoredTensor, StoredTensor], ...] = ()

    @property
    def tensors(self) -> list[StoredTensor]:
        """All tensors that it is read from."""
        factors = [part for pair in self.pairs.values() for part in (pair.a, pair.b)]
        return [*factors, *self.whole.values(), *(copied for _, copied in self.copies)]


def is_adapter(path: Path) -> bool:
    """Tell whether a folder is an adapter rather than a model."""
    return (path / CONFIG_FILE).is_file()


def read_adapter(path: Path) -> Adapter:
    """Return the adapter in a folder; only headers are read.

    Raises:
        BadInputError: it is damaged, or something other than a plain LoRA adapter.
    """
    config = read_config(path / CONFIG_FILE)
    for name, read in ((WEIGHTS_FILE, read_header), (PICKLED_FILE, read_pickled)):
        if (path / name).is_file():
            return _sort_out(path, config, read(path / name))
    message = f"{path} has neither {WEIGHTS_FILE} nor {PICKLED_FILE}"
    raise BadInputError(message, hint="save the adapter with `save_pretrained`")


def _sort_out(
    path: Path, config: AdapterConfig, stored: Iterable[StoredTensor]
) -> Adapter:
    """Tell factors, whole tensors and copies apart by their names."""
    factors: dict[tuple[str, bool], dict[str, StoredTensor]] = {}
    whole: dict[str, StoredTensor] = {}
    copied: dict[str, StoredTensor] = {}
    for tensor in stored:
        name = tensor.name.removeprefix(NAME_PREFIX)
        if name.endswith(_DORA):
            raise unsupported(path, "DoRA (use_dora): its magnitudes need the base")
        if found := _FACTOR.fullmatch(name) or _EMBEDDING.fullmatch(name):
            key = (f"{found[1]}.weight", ".lora_embedding_" in name)
            factors.setdefault(key, {})[found[2]] = tensor
        elif ".lora_" in name or ".token_adapter." in name:
            raise unsupported(path, f"the tensor {tensor.name!r}")
        elif _COPY in name:
            copied[name.replace(_COPY, ".")] = tensor
        elif _ORIGINAL not in name:
            whole[name.replace(_INNER, ".")] = tensor
    pairs = {key[0]: _pair(path, config, key, found) for key, found in factors.items()}
    if len(pairs) < len(factors) or not pairs:
        message = f"{path} has no pair of factors, or two for one weight"
        raise BadInputError(message, hint="is it a LoRA adapter?")
    copies = tuple((whole[n], t) for n, t in sorted(copied.items()) if n in whole)
    return Adapter(path, config, pairs, {**copied, **whole}, copies)


def _pair(
    path: Path,
    config: AdapterConfig,
    key: tuple[str, bool],
    found: Mapping[str, StoredTensor],
) -> Pair:
    target, is_embedding = key
    if set(found) != {"A", "B"} or min(len(t.shape) for t in found.values()) < 2:
        message = f"{path} lacks a factor of {target!r}, or one has no rows and columns"
        raise BadInputError(message, hint="save the adapter again")
    a, b = found["A"], found["B"]
    module = target.removesuffix(".weight")
    rank, stated = a.shape[0], config.rank(module)
    if rank != stated or b.shape[1] != rank:
        message = (
            f"{CONFIG_FILE} in {path} gives {module!r} the rank {stated}, its factors"
            f" are {list(a.shape)} and {list(b.shape)}"
        )
        raise BadInputError(message, hint="are config and weights of one adapter?")
    divisor = math.sqrt(rank) if config.use_rslora else rank
    return Pair(a, b, config.alpha(module) / divisor, is_embedding)


def unsupported(path: Path, what: str) -> BadInputError:
    """Return the error that names what an adapter uses and we do not merge."""
    hint = "merge the adapter into its base with PEFT, and contribute the whole model"
    return BadInputError(f"{path} uses {what}, which is not supported", hint=hint)


def fitted(adapter: Adapter, base: Manifest) -> Adapter:
    """Return `adapter` under the names of the base's tensors.

    A model class may prefix the names of its body (`bert.`), or a base may be saved with
    a prefix that the adapter lacks: one change of prefix must explain all pairs, and only
    one. Whole tensors that the base lacks keep their names: the caller refuses them.

    Raises:
        BadInputError: its weights are none of the base's, or could be several.
    """
    shapes = {entry.name: entry.shape for entry in base.tensors}
    fitting: dict[tuple[str, ...], dict[str, str]] = {}
    for rename in _renamings(adapter.pairs, shapes):
        renamed = {name: rename(name) for name in (*adapter.pairs, *adapter.whole)}
        if all(
            _fits(pair, shapes.get(renamed[n])) for n, pair in adapter.pairs.items()
        ):
            fitting.setdefault(tuple(renamed[name] for name in adapter.pairs), renamed)
            if rename is str:  # names that are the base's own leave no doubt
                break
    if len(fitting) != 1:
        raise _stranger(adapter, shapes, sorted(fitting))
    (renamed,) = fitting.values()
    whole = {
        renamed[name] if renamed[name] in shapes else name: tensor
        for name, tensor in adapter.whole.items()
    }
    pairs = {renamed[name]: pair for name, pair in adapter.pairs.items()}
    return replace(adapter, pairs=pairs, whole=whole)


def _fits(pair: Pair, shape: tuple[int, ...] | None) -> bool:
    """Tell whether the product of the factors could be added to a weight of `shape`."""
    rows, columns = pair.b.shape[0], pair.a.shape[1:]
    return shape in {(rows, *columns), (*columns, rows)}


def _stranger(
    adapter: Adapter,
    shapes: Mapping[str, tuple[int, ...]],
    fitting: Sequence[tuple[str, ...]],
) -> BadInputError:
    """Return the error for an adapter that fits nothing of the base, or several parts."""
    if fitting:
        places = ", ".join(repr(names[0]) for names in fitting)
        message = f"the adapter's {min(adapter.pairs)!r} could be any of {places}"
        hint = "adapt the whole model, so that the names say which part is meant"
        return BadInputError(message, hint=hint)
    lost = min(adapter.pairs.keys() - shapes.keys(), default="")
    made_for = adapter.config.base_name
    said = f"; it says that its base is {made_for!r}" if made_for else ""
    hint = (
        "contribute an adapter of the space's base; names count as they are in its file"
        " (a head tied to the embedding has none there)"
    )
    if lost:
        message = f"the adapter changes {lost!r}, which the base lacks{said}"
        return BadInputError(message, hint=hint)
    name = min(n for n, p in adapter.pairs.items() if not _fits(p, shapes[n]))
    pair = adapter.pairs[name]
    message = (
        f"the adapter's factors for {name!r} are {list(pair.a.shape)} and"
        f" {list(pair.b.shape)}; in the base it is {list(shapes[name])}{said}"
    )
    return BadInputError(message, hint=hint)


def _renamings(
    names: Iterable[str], base: Iterable[str]
) -> Iterator[Callable[[str], str]]:
    """Yield changes of prefix, the smallest first."""
    yield str
    theirs = min(names)
    for count in range(1, PREFIX_PARTS_MAX + 1):
        head = ".".join(theirs.split(".")[:count]) + "."
        yield lambda name, head=head: name.removeprefix(head)  # type: ignore[misc]
    heads = {
        ".".join(name.split(".")[:count]) + "."
        for name in base
        for count in range(1, PREFIX_PARTS_MAX + 1)
        if name.count(".") > count
    }
    for head in sorted(heads, key=lambda head: (head.count("."), head)):
        yield lambda name, head=head: head + name  # type: ignore[misc]


def layers(adapter: Adapter, base: Manifest) -> dict[str, str]:
    """Return how each layer of a fitted adapter keeps its weight.

    Shapes tell, except for square weights: those are as their relatives are, or else as
    the config says. PEFT sets `fan_in_fan_out` for the layer it met last, so that is no
    more than a hint.
    """
    shapes = {entry.name: entry.shape for entry in base.tensors}
    kept = {
        name: FAN_IN if pair.turned(shapes[name]) else LINEAR
        for name, pair in adapter.pairs.items()
        if not pair.square and not pair.is_embedding
    }
    relatives = layers_of(base, kept.items())
    usual = FAN_IN if adapter.config.fan_in_fan_out else LINEAR
    for name, pair in adapter.pairs.items():
        if pair.is_embedding:
            kept[name] = "embedding"
        elif pair.square:
            kept[name] = relatives.like(name) or usual
    return kept


def factor_names(target: str, layer: str) -> tuple[str, str]:
    """Return what a manifest calls the two factors of a weight."""
    end_a, end_b = PAIR_SUFFIXES[layer]
    return target + end_a, target + end_b
