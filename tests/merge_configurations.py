"""The smallest mergekit configuration of each merge method.

Owns which models and words each of mergekit's methods cannot do without. Written from
mergekit's documentation, and not from our table.
"""

from collections.abc import Sequence
from typing import Final

WEIGHTED: Final = (
    "linear", "nuslerp", "multislerp", "task_arithmetic", "ties", "dare_linear",
    "dare_ties", "della", "della_linear", "breadcrumbs", "breadcrumbs_ties",
)  # fmt: skip
UNWEIGHTED: Final = ("karcher", "model_stock", "sce", "ram", "ramplus_tl")
ENDS: Final = ("slerp", "nearswap", "arcee_fusion")
ALONE: Final = "passthrough"
MERGEKITS: Final = (*WEIGHTED, *UNWEIGHTED, *ENDS, ALONE)
"""All 20 methods of mergekit 0.1.5."""

BASELESS: Final = ("linear", "karcher", "passthrough")


def smallest(method: str, models: Sequence[str] = ("a", "b"), more: str = "") -> str:
    """Return a configuration, `more` put among the parameters at the top."""
    base = "" if method in BASELESS else "base_model: base\n"
    words = [more] if more else []
    if method in {"slerp", "nearswap"} and "t:" not in more:
        words.append("t: 0.25" if method == "slerp" else "t: 0.03125")
    taken = models[:1] if method in {*ENDS, ALONE} else models
    own = ", parameters: {weight: 0.5}" if method in WEIGHTED else ""
    listed = ", ".join(f"{{model: {name}{own}}}" for name in taken)
    return (
        f"merge_method: {method}\n{base}models: [{listed}]\n"
        f"parameters: {{{', '.join(words)}}}\n"
    )
