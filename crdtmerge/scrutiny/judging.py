"""From figures to a report of one contribution.

Owns what a report is made of, and layers. Does not own thresholds: those stand beside
each rule (`outlying`, `copies`, `concentration`, `disguises`). A finding is no proof of
bad will, and none is no proof of good.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from crdtmerge.rules import split_layer
from crdtmerge.scrutiny.concentration import concentrated, concentration
from crdtmerge.scrutiny.copies import copies, nearest, shared
from crdtmerge.scrutiny.disguises import disguises
from crdtmerge.scrutiny.findings import Finding, Report
from crdtmerge.scrutiny.measuring import Measured
from crdtmerge.scrutiny.outlying import direction, distance
from crdtmerge.scrutiny.standing import Among, Standing, among

LAYER_ITEMS: Final = 1024
"""Values of a layer below which it is too small to stand out by itself."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A company summed up once: over the model, and over each layer."""

    whole: Among
    layers: Mapping[str, Among]
    large: frozenset[str]


def reports_of(measured: Measured, places: Iterable[int]) -> list[Report]:
    """Return what is to be said of some contributions."""
    layers = layers_of(measured)
    tensors = measured.company.tensors
    large = {
        name
        for name, members in layers.items()
        if sum(tensors[t].items for t in members) >= LAYER_ITEMS
    }
    overview = Overview(
        among(measured, measured.looked_at),
        {name: among(measured, members) for name, members in layers.items()},
        frozenset(large),
    )
    return [_report(measured, overview, place) for place in places]


def report_of(measured: Measured, place: int) -> Report:
    """Return what is to be said of one contribution."""
    (found,) = reports_of(measured, [place])
    return found


def _report(measured: Measured, overview: Overview, place: int) -> Report:
    content = measured.company.subjects[place].content
    if content in measured.faulty:
        nothing = Standing(math.nan, None, None, None, None)
        return Report(content, nothing, findings=(Finding("faulty", "warning", {}),))
    whole = overview.whole
    layers = {name: found.standing(place) for name, found in overview.layers.items()}
    large = {name: layers[name] for name in layers if name in overview.large}
    standing = whole.standing(place)
    found = [
        *distance(standing, large),
        *direction(standing, large),
        *copies(measured, whole, place),
        *shared(measured, place),
        *concentrated(measured, place),
        *disguises(measured, place),
    ]
    return Report(
        content,
        standing,
        layers,
        nearest(measured, whole, place),
        concentration(measured, place),
        tuple(found),
    )


def layers_of(measured: Measured) -> dict[str, list[int]]:
    """Return the tensors of each layer; one of no layer is a layer of its own."""
    layers: dict[str, list[int]] = {}
    for place in measured.looked_at:
        name = measured.company.tensors[place].name
        split = split_layer(name)
        layers.setdefault(f"{split[0]}{split[1]}" if split else name, []).append(place)
    return layers
