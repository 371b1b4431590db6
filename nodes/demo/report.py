"""What the demo found: its figures, what must hold of them, the table and the JSON.

Owns the outcome as a value and every expectation. Does not own how it came about
(`story`).
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
class Stage:
    """One moment at which every peer resolved: digest and model bytes, peer by peer."""

    digests: tuple[str, ...]
    models: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything the demo reports; tuples are in the order of `names`."""

    names: tuple[str, ...]
    classes: tuple[tuple[int, ...], ...]
    test_images: int
    accuracy: Accuracy
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


def broken_promises(outcome: Outcome) -> Iterator[str]:
    """Yield a sentence for each thing the demo promises that did not come true."""
    accuracy = outcome.accuracy
    for name, stage in outcome.stages:
        if not _equal(stage.digests) or not _equal(stage.models):
            yield f"the peers resolved different models ({name})"
    if not _equal(outcome.roots):
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
    """Yield the lines of the report."""
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
    yield _row("", ("equal" if _equal(column) else "DIFFERENT" for column in columns))


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


def _equal(values: tuple[str, ...] | tuple[bytes, ...]) -> bool:
    return len(set(values)) == 1
