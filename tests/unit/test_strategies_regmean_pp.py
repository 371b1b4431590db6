"""regmean_pp: rounds of merges come to what RegMean++ finds layer by layer."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Evidence
from tests.strategies import UNIT, resolve, task

WIDTHS = (6, 7, 5, 4)
MODELS = 3
SETTINGS = {"alpha": "1", "ridge": "0.000000001"}

Network = list[Floats]


def merged(
    name: str, layers: Sequence[Floats], evidence: Sequence[Evidence], **more: str
) -> Floats:
    """One linear layer of several models, merged."""
    settings = {**SETTINGS, **more}
    inputs = task(name, "F64", list(layers), np.zeros(layers[0].shape), **settings)
    inputs = replace(
        inputs,
        output_dtype="F64",
        exponent=8,
        evidence=tuple(evidence),
        weights=(UNIT,) * len(layers),
    )
    return numerics.upcast(resolve(name, inputs), "F64").reshape(inputs.shape)


def made() -> tuple[list[Network], list[Floats]]:
    """Three networks of three layers with ReLU between, and each one's data."""
    rng = np.random.default_rng(0)
    networks = [
        [rng.standard_normal((b, a)) for a, b in pairwise(WIDTHS)]
        for _ in range(MODELS)
    ]
    return networks, [rng.standard_normal((60, WIDTHS[0])) for _ in range(MODELS)]


def inputs_of(network: Sequence[Floats], data: Floats) -> list[Floats]:
    """What comes into each layer."""
    found = [data]
    for layer in network[:-1]:
        found.append(np.maximum(found[-1] @ layer.T, 0))
    return found


def gram(rows: Floats) -> Floats:
    made = rows.T @ rows
    symmetric: Floats = (made + made.T) / (2 * np.trace(made))
    return symmetric


def layer_by_layer(networks: list[Network], data: list[Floats]) -> Network:
    """RegMean++ as it is published, in plain NumPy: each layer after those before it."""
    seen, found = list(data), []
    for at in range(len(WIDTHS) - 1):
        grams = [gram(rows) for rows in seen]
        side = sum(n[at] @ g for n, g in zip(networks, grams, strict=True))
        found.append(side @ np.linalg.inv(sum(grams)))
        seen = [np.maximum(rows @ found[-1].T, 0) for rows in seen]
    return found


def test_rounds_come_to_the_merge_layer_by_layer() -> None:
    """After as many rounds as there are layers, and then they stay there."""
    networks, data = made()
    expected = layer_by_layer(networks, data)
    own = [
        [gram(rows) for rows in inputs_of(network, rows_of)]
        for network, rows_of in zip(networks, data, strict=True)
    ]
    newest: list[list[Floats]] | None = None
    right = []
    for _ in range(len(WIDTHS)):
        found = []
        for at in range(len(WIDTHS) - 1):
            told: list[Evidence] = [
                {"gram": own[i][at]}
                | ({"gram_merged": newest[i][at]} if newest else {})
                for i in range(MODELS)
            ]
            found.append(merged("regmean_pp", [n[at] for n in networks], told))
        newest = [[gram(rows) for rows in inputs_of(found, x)] for x in data]
        pairs = zip(found, expected, strict=True)
        right.append(sum(bool(np.allclose(a, b, atol=1e-5)) for a, b in pairs))
    assert right == [1, 2, 3, 3]


def test_the_first_round_is_regmean() -> None:
    """Without Gram matrices of a merge there is nothing newer."""
    networks, data = made()
    layers = [n[0] for n in networks]
    told: list[Evidence] = [{"gram": gram(rows)} for rows in data]
    assert np.array_equal(
        merged("regmean_pp", layers, told), merged("regmean", layers, told)
    )


def test_who_has_nothing_newer_counts_with_its_own() -> None:
    """And who attaches nothing at all is refused, as in regmean."""
    networks, data = made()
    layers = [n[0] for n in networks]
    old, new = [gram(rows) for rows in data], gram(data[0] * [1, 2, 3, 4, 5, 6])
    mixed: list[Evidence] = [
        {"gram": old[0], "gram_merged": new},
        {"gram": old[1]},
        {"gram_merged": old[2]},
    ]
    plain: list[Evidence] = [{"gram": g} for g in (new, old[1], old[2])]
    assert np.array_equal(
        merged("regmean_pp", layers, mixed), merged("regmean", layers, plain)
    )
    with pytest.raises(ContractError, match="attaches no evidence"):
        merged("regmean_pp", layers, [*mixed[:2], {}])
