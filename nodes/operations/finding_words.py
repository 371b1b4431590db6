"""What a finding is called to people: a sentence, what it may mean, what can be done.

Owns the words. Does not own findings (`crdtmerge.scrutiny`), nor lines (`cli`).
"""

from collections.abc import Callable, Mapping
from typing import Final

from crdtmerge.scrutiny.findings import Finding, Name

from .selection import SHORT

Figures = Mapping[str, float]

_SENTENCES: Final[Mapping[Name, Callable[[Figures], str]]] = {
    "faulty": lambda _: "its values cannot be merged",
    "far": lambda f: (
        f"its task vector is {f['ratio']:.1f} times as long as the median of the others'"
    ),
    "flipped": lambda f: (
        f"its task vector points against the others': median cosine"
        f" {f['agreement']:+.2f}, theirs with one another {f['typical']:+.2f}"
    ),
    "apart": lambda f: (
        f"its task vector has nothing in common with the others': median cosine"
        f" {f['agreement']:+.2f}, theirs with one another {f['typical']:+.2f}"
    ),
    "copy": lambda f: (
        f"its task vector is {f['factor']:.3g} times that of OTHER"
        f" (cosine {f['cosine']:+.5f})"
    ),
    "shares": lambda f: (
        f"{f['tensors']:.0f} of its changed tensors are those of OTHER, byte for byte"
        f" ({100 * f['share']:.1f}% of what it changed)"
    ),
    "concentrated": lambda f: (
        f"{100 * f['share']:.0f}% of a matrix of its task vector lies in one direction,"
        f" of the others' {100 * f['typical']:.0f}%"
    ),
    "permuted": lambda f: (
        f"up to {100 * f['share']:.0f}% of the rows or columns of"
        f" {f['tensors']:.0f} tensors are other rows or columns of the base"
    ),
    "rescaled": lambda f: (
        f"up to {100 * f['share']:.0f}% of the rows or columns of"
        f" {f['tensors']:.0f} tensors are multiples of the base's, or turned about"
    ),
    "rotated": lambda f: (
        f"the rows or columns of {f['tensors']:.0f} tensors are the base's, turned into"
        " one another"
    ),
    "locked": lambda f: (
        f"{f['pairs']:.0f} pairs of matrices are both far from the base's, and their"
        f" product is not (moved by {100 * f['change']:.0f}%, they by"
        f" {100 * f['distance']:.0f}%)"
    ),
}

_TRANSFORM: Final = (
    "the model computes what it did, but its units no longer line up with anybody's: an"
    " average with it is of no use (PaRaMS, MergeLock)"
)
_MEANINGS: Final[Mapping[Name, str]] = {
    "faulty": "NaN, infinity, or values out of bounds: no merge can be made with it",
    "far": (
        "in an average it outweighs the others: a task vector that was scaled up, or much"
        " longer or faster training"
    ),
    "flipped": "it undoes what the others learned: a task vector with its sign turned",
    "apart": (
        "it learned something else, from other data, or it is not of this base's kind"
    ),
    "copy": (
        "one piece of work counts twice, or is taken back if the factor is below zero;"
        " checkpoints of one training run look like this, too"
    ),
    "shares": "parts of another's work count twice, under a second name",
    "concentrated": (
        "something was put in by hand, as a trigger is; adapters of a low rank that were"
        " merged into whole models look like this, too"
    ),
    "permuted": _TRANSFORM,
    "rescaled": _TRANSFORM,
    "rotated": _TRANSFORM,
    "locked": _TRANSFORM,
}

_LOOK: Final = (
    "ask its author; `resolve --without ID` merges without it here, `ban ID` keeps it out"
    " for all"
)
_ROBUST: Final = (
    "; a recipe with a robust strategy (median, trimmed_mean, multi_krum) bears some"
)
_ADVICE: Final[Mapping[Name, str]] = {
    "faulty": "`check ID` tells why, and publishes it if its bytes prove it",
    "far": _LOOK + _ROBUST,
    "flipped": _LOOK + _ROBUST,
    "apart": _LOOK,
    "copy": "`ban` one of the two, or give both less weight by a rule of the recipe",
    "shares": "`ban` one of the two, or give both less weight by a rule of the recipe",
    "concentrated": _LOOK + "; test a merge with it for what it must not do",
    "permuted": _LOOK,
    "rescaled": _LOOK,
    "rotated": _LOOK,
    "locked": _LOOK,
}


def sentence(finding: Finding) -> str:
    """Return what was found, and how much of it, on one line."""
    other = finding.against.hex()[:SHORT] if finding.against else ""
    return _SENTENCES[finding.name](finding.figures).replace("OTHER", other)


def meaning(name: Name) -> str:
    """Return what a finding may mean."""
    return _MEANINGS[name]


def advice(name: Name) -> str:
    """Return what can be done."""
    return _ADVICE[name]
