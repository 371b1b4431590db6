"""Task vectors that lie in few directions, unlike the others'.

Owns the thresholds. Does not own the energies (`spectra`). A tensor is compared with
the same tensor of the others, for layers differ: of honest fine-tunes one direction has
20% of some matrices and 75% of others. What a share p says is told by its odds, p / (1
- p).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from crdtmerge.changes import LowRank
from crdtmerge.scrutiny.findings import Finding, named
from crdtmerge.scrutiny.measuring import OTHERS_MIN, Measured
from crdtmerge.scrutiny.spectra import has_spectrum
from crdtmerge.scrutiny.standing import counted_of, middle

ODDS: Final = 6.0
SHARE_MIN: Final = 0.5
"""Odds of the first direction over those of the others' median, and its least share."""

ODDS_LONG: Final = 3.0
LONG: Final = 4.0
"""Lesser odds do where the direction has this multiple of the others' energy in it."""


def concentration(measured: Measured, place: int) -> float | None:
    """Return the share of the first directions of all matrices together."""
    known = _known(measured, place)
    energy = math.fsum(float(measured.energies[place, t]) for t in known)
    total = math.fsum(_square(measured, t, place) for t in known)
    return min(energy / total, 1.0) if total else None


def concentrated(measured: Measured, place: int) -> Iterator[Finding]:
    """Yield which matrices lie in one direction; adapters are not judged by it."""
    odd: dict[str, dict[str, float]] = {}
    subject = measured.company.subjects[place]
    for tensor in _known(measured, place):
        entry = measured.company.tensors[tensor]
        others = _others(measured, tensor, place)
        if len(others) < OTHERS_MIN or isinstance(subject.change(entry), LowRank):
            continue
        figures = _figures(measured, tensor, place, others)
        if figures:
            odd[entry.name] = figures
    if odd:
        most = max(odd.values(), key=lambda figures: figures["odds"])
        # A merged adapter of low rank looks like this, and is honest: never a warning.
        yield Finding("concentrated", "notice", most, named(odd))


def _others(measured: Measured, tensor: int, place: int) -> list[int]:
    """Return who else moved a tensor, by more than a pair of factors."""
    subjects = measured.company.subjects
    entry = measured.company.tensors[tensor]
    return [
        other
        for other in counted_of(measured)
        if other != place
        and _square(measured, tensor, other)
        and not isinstance(subjects[other].change(entry), LowRank)
    ]


def _figures(
    measured: Measured, tensor: int, place: int, others: Sequence[int]
) -> dict[str, float]:
    """Return the figures of a tensor whose first direction stands out; none else."""

    def share(who: int) -> float:
        first = float(measured.energies[who, tensor])
        return min(first / _square(measured, tensor, who), 1.0 - 1e-9)

    own, typical = share(place), middle([share(other) for other in others])
    odds = _odds(own) / _odds(typical) if typical else math.inf
    before = middle([float(measured.energies[other, tensor]) for other in others])
    energy = float(measured.energies[place, tensor]) / before if before else math.inf
    alone = odds >= ODDS and own >= SHARE_MIN
    if alone or (odds >= ODDS_LONG and energy >= LONG):
        return {"share": own, "typical": typical, "odds": odds, "energy": energy}
    return {}


def _odds(share: float) -> float:
    return share / (1.0 - share)


def _known(measured: Measured, place: int) -> list[int]:
    """Return the tensors of which the first directions are known, and not of zeros."""
    return [
        t
        for t in measured.looked_at
        if has_spectrum(measured.company.tensors[t])
        and not np.isnan(measured.energies[place, t])
        and _square(measured, t, place)
    ]


def _square(measured: Measured, tensor: int, place: int) -> float:
    return float(measured.products[tensor, place + 1, place + 1])
