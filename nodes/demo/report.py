"""What the demo found: its figures, what must hold of them, the table and the JSON.

Owns the outcome as a value and every expectation. Does not own how it came about
(`story`), nor the folder that it is written to (`folder`, `page`, `plot`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

SHOWN_CHARACTERS: Final = 12
"""How much of a digest the table shows; the JSON has all of it."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Shares of the test set told right, by model; `fine_tunes` in the peers' order."""

    base: float
    fine_tunes: tuple[float, ...]
    merged: float
    poisoned: float
    after_ban: float


@dataclass(frozen=True, slots=True)
class Row:
    """One model: the share of all test images that it tells, and of each digit's."""

    label: str
    share: float
    by_digit: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """One moment at which every peer resolved: what it wrote, peer by peer."""

    digests: tuple[str, ...]
    models: tuple[bytes, ...]
    resolutions: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything the demo reports; tuples are in the order of `names`.

    `by_digit` has one entry a model, in the order of `rows`.
    """

    names: tuple[str, ...]
    classes: tuple[tuple[int, ...], ...]
    test_images: int
    accuracy: Accuracy
    by_digit: tuple[tuple[float, ...], ...]
    merged: Stage
    poisoned: Stage
    after_ban: Stage
    roots: tuple[str, ...]

    @property
    def stages(self) -> tuple[tuple[str, Stage], ...]:
        """The three moments, named as in the table."""
        return (
            ("merged", self.merged),
            ("with the poison", self.poisoned),
            ("after the ban", self.after_ban),
        )

    @property
    def rows(self) -> tuple[Row, ...]:
        """The models in the order of the story, with their accuracies."""
        named = _figures(self)
        pairs = zip(named, self.by_digit, strict=True)
        return tuple(Row(label, share, digits) for (label, share), digits in pairs)


def broken_promises(outcome: Outcome) -> Iterator[str]:
    """Yield a sentence for each thing the demo promises that did not come true."""
    accuracy = outcome.accuracy
    for name, stage in outcome.stages:
        if not equal(stage.digests) or not equal(stage.models):
            yield f"the peers resolved different models ({name})"
        if not equal(stage.resolutions):
            yield f"the peers wrote different resolutions ({name})"
    if not equal(outcome.roots):
        yield "the peers ended with different record roots"
    if accuracy.merged <= max(accuracy.fine_tunes):
        yield "the merged model does not beat every single fine-tune"
    if accuracy.merged <= accuracy.base:
        yield "the merged model does not beat the base"
    if accuracy.poisoned >= accuracy.merged:
        yield "the poison did no harm, so the ban shows nothing"
    if (
        outcome.after_ban.models != outcome.merged.models
        or outcome.after_ban.digests != outcome.merged.digests
    ):
        yield "the bytes after the ban differ from the bytes before the poison"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome in the shape that `--json` promises."""
    accuracy = outcome.accuracy
    peers = zip(outcome.names, outcome.roots, outcome.after_ban.digests, strict=True)
    return {
        "peers": [
            {"name": name, "root": root, "model_digest": digest}
            for name, root, digest in peers
        ],
        "accuracy": {
            "base": accuracy.base,
            "fine_tunes": list(accuracy.fine_tunes),
            "merged": accuracy.merged,
            "poisoned": accuracy.poisoned,
            "after_ban": accuracy.after_ban,
        },
    }


def table(outcome: Outcome) -> Iterator[str]:
    """Yield the lines that are printed."""
    yield f"Accuracy on the full test set ({outcome.test_images} images, ten digits)"
    for label, share in _figures(outcome):
        yield f"  {label:<36}{share:>6.1%}"
    yield ""
    yield "What each peer holds at the end, and the digest of each model it resolved"
    columns = [outcome.roots, *(stage.digests for _, stage in outcome.stages)]
    headings = ("record root", *(name for name, _ in outcome.stages))
    yield _row("", headings)
    for index, name in enumerate(outcome.names):
        yield _row(name, (column[index][:SHOWN_CHARACTERS] for column in columns))
    yield _row("", ("equal" if equal(column) else "DIFFERENT" for column in columns))


def equal(values: tuple[str, ...] | tuple[bytes, ...]) -> bool:
    """Tell whether all of several values are the same."""
    return len(set(values)) == 1


def _figures(outcome: Outcome) -> Iterator[tuple[str, float]]:
    accuracy = outcome.accuracy
    yield "base", accuracy.base
    tuned = zip(outcome.names, outcome.classes, accuracy.fine_tunes, strict=False)
    for name, classes, share in tuned:
        digits = " ".join(str(digit) for digit in classes)
        yield f"fine-tune of {name} (only {digits})", share
    yield "merged", accuracy.merged
    yield "merged with the poison", accuracy.poisoned
    yield "after the ban", accuracy.after_ban


def _row(name: str, cells: Iterable[str]) -> str:
    return (f"  {name:<9}" + "".join(f"{cell:<17}" for cell in cells)).rstrip()
