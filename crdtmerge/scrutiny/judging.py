"""From figures to a report of one contribution.

Owns what a report is made of, and layers. Does not own thresholds: those stand beside
each rule (`outlying`, `copies`, `concentration`, `disguises`). A finding is no proof of
bad will, and none is no proof of good.
"""

import math
from typing import Final

from crdtmerge.rules import split_layer
from crdtmerge.scrutiny.concentration import concentrated, concentration
from crdtmerge.scrutiny.copies import copies, nearest, shared
from crdtmerge.scrutiny.disguises import disguises
from crdtmerge.scrutiny.findings import Finding, Report
from crdtmerge.scrutiny.measuring import Measured
from crdtmerge.scrutiny.outlying import direction, distance
from crdtmerge.scrutiny.standing import Standing, among

LAYER_ITEMS: Final = 1024
"""Values of a layer below which it is too small to stand out by itself."""


def report_of(measured: Measured, place: int) -> Report:
    """Return what is to be said of one contribution."""
    company = measured.company
    content = company.subjects[place].content
    if content in measured.faulty:
        nothing = Standing(math.nan, None, None, None, None)
        return Report(content, nothing, findings=(Finding("faulty", "warning", {}),))
    whole = among(measured, measured.looked_at)
    layers = layers_of(measured)
    standings = {
        name: among(measured, tensors).standing(place)
        for name, tensors in layers.items()
    }
    large = {
        name: standings[name]
        for name, tensors in layers.items()
        if sum(company.tensors[t].items for t in tensors) >= LAYER_ITEMS
    }
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
        standings,
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
