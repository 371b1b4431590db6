"""Block sizes: the constants that no output bit depends on, and setting them.

Owns the list. Does not own calling a kernel in parts (`kernels`). The sizes that the
contract fixes, such as the 65,536 items of a block of a sum's tree, are not here.
"""

from importlib import import_module
from typing import Final

TREE_ITEMS: Final = 1 << 16
"""A strip of a tree's block is no longer than the block."""

_ANY: Final = 1 << 62

CONSTANTS: Final[dict[str, tuple[tuple[str, str, int, int], ...]]] = {
    "": (
        ("crdtmerge.numerics.formulas", "BLOCK_ITEMS", 1, _ANY),
        ("crdtmerge.strategies.arcee_fusion", "BAND_ITEMS", 1, _ANY),
        ("crdtmerge.strategies.geometry", "BAND_ITEMS", 1, _ANY),
        ("crdtmerge.strategies.model_stock", "BAND_ITEMS", 1, _ANY),
        ("crdtmerge.strategies.widen", "_BAND_ITEMS", 1, _ANY),
    ),
    "reference": (
        ("crdtmerge.numerics.reference.dtypes", "_INSPECT_ITEMS", 1, _ANY),
        ("crdtmerge.numerics.reference.gemm", "BLOCK_ITEMS", 1, _ANY),
        ("crdtmerge.numerics.reference.reading", "BLOCK_ITEMS", 1, _ANY),
        ("crdtmerge.numerics.reference.reductions", "_GROUP_BLOCKS", TREE_ITEMS, _ANY),
    ),
    "cpu": (
        ("crdtmerge.numerics.cpu.accumulating", "BLOCK", 1, _ANY),
        ("crdtmerge.numerics.cpu.measuring", "STRIP_ITEMS", 1, TREE_ITEMS),
        ("crdtmerge.numerics.cpu.measuring", "_INSPECT_ITEMS", 1, _ANY),
        ("crdtmerge.numerics.cpu.philox", "BUFFER_WORDS", 1, _ANY),
        ("crdtmerge.numerics.cpu.selecting", "BLOCK", 1, _ANY),
        ("crdtmerge.numerics.cpu.sums", "BLOCK", 1, _ANY),
    ),
    "cuda": (
        ("crdtmerge.numerics.cuda.device", "BLOCK_ITEMS", 1, _ANY),
        ("crdtmerge.numerics.cuda.gemm", "BLOCK_ITEMS", 1, _ANY),
        ("crdtmerge.numerics.cuda.reductions", "PRODUCT_ITEMS", 1, _ANY),
    ),
}
"""For each package ("" for all): module, constant, items of its unit, the most items."""


def set_blocks(package: str, items: int) -> None:
    """Have everything that works in blocks work in blocks of `items`.

    SUBTLE: compiled loops freeze what is set when they are compiled, so each size needs
    a folder of its own for machine code (`platforms`).

    Raises:
        AttributeError: a constant of the table is not there any more.
    """
    chosen = CONSTANTS[""] + CONSTANTS["reference"]
    if package != "reference":
        chosen += CONSTANTS[package]
    for module, name, unit, most in chosen:
        found = import_module(module)
        getattr(found, name)
        setattr(found, name, max(1, min(items, most) // unit))
