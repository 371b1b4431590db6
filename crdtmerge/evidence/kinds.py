"""The kinds of evidence, one literal table: shapes, values, and how they are scaled.

Owns the names. Does not own the checks of bytes, nor which strategy reads which kind.

A kind is what strategies ask for; a manifest stores it in one of its forms, each entry
named after the tensor that it is about. All that is stored is self-declared: what an
author could win by scaling is scaled away (`Kind.scaling`), what cannot be so is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

Shape: TypeAlias = Literal["items", "gram", "columns", "rows"]
"""Of the array that strategies see, for a tensor of shape (rows, ...), columns the product
of what is left: the tensor's own shape; (columns, columns); (columns,); (rows,)."""

Scaling: TypeAlias = Literal["mean", "trace", "largest", "none"]
"""What is 1 after normalising: the mean of the items; the trace; the largest item."""

SCALAR: Final = "scalar"
"""What single numbers are stored as: one item, named by what it is (`loss`, `score:x`)."""

SCALARS: Final = ("loss", "samples", "step")
"""The single numbers that have a meaning of their own, beside `score:CATEGORY`."""

SCORE: Final = "score:"

SCALARS_FILE: Final = "scalars.json"
"""What a folder of evidence calls the file with its numbers, beside KIND.safetensors."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of evidence as strategies see it.

    `forms` are the kinds that a manifest may store it as; `linear` tells that it is about
    the input of a layer, so of tensors of two dimensions and more alone.
    """

    name: str
    shape: Shape
    scaling: Scaling
    signed: bool
    forms: tuple[str, ...]
    about: str
    linear: bool = False


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind(
                "adam",
                "items",
                "mean",
                signed=False,
                forms=("adam", "adam_columns", "adam_rows"),
                about="second moments of Adam, whole or as sums of rows and of columns",
            ),
            Kind(
                "energy",
                "items",
                "mean",
                signed=False,
                forms=("energy",),
                about="sums of squared normalised inputs of a norm, per feature",
            ),
            Kind(
                "fisher",
                "items",
                "mean",
                signed=False,
                forms=("fisher",),
                about="diagonal of the Fisher matrix: mean squared gradients",
            ),
            Kind(
                "fisher_base",
                "items",
                "mean",
                signed=False,
                forms=("fisher_base",),
                about="the same of the base, on the contributor's data",
            ),
            Kind(
                "gram",
                "gram",
                "trace",
                signed=True,
                forms=("gram", "gram_sketch"),
                about="mean x x' of a linear layer's inputs, whole or as a factor S of S'S",
                linear=True,
            ),
            Kind(
                "gram_merged",
                "gram",
                "trace",
                signed=True,
                forms=("gram_merged", "gram_merged_sketch"),
                about="the same in an earlier merge, on the contributor's data",
                linear=True,
            ),
            Kind(
                "inputs",
                "columns",
                "none",
                signed=True,
                forms=("inputs",),
                about="mean inputs of a linear layer, per input channel",
                linear=True,
            ),
            Kind(
                "magnitude",
                "columns",
                "largest",
                signed=False,
                forms=("magnitude",),
                about="mean |inputs| of a linear layer of the base, per input channel",
                linear=True,
            ),
            Kind(
                "outputs",
                "rows",
                "none",
                signed=True,
                forms=("outputs",),
                about="mean outputs of a layer, per output channel, named by its weight",
            ),
            Kind(
                "snip",
                "items",
                "mean",
                signed=False,
                forms=("snip",),
                about="importance |theta * gradient| of each item",
            ),
            Kind(
                "snip_base",
                "items",
                "mean",
                signed=False,
                forms=("snip_base",),
                about="the same of the base, on the contributor's data",
            ),
        )
    }
)
