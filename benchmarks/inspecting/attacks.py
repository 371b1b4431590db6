"""What is done to one fine-tune of a group, and by which name it should be found.

Owns the attacks. Does not own what finds them (`crdtmerge.scrutiny`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from benchmarks.quality.networks import HEADS, LAYERS, WIDTH
from nodes.demo.training import Weights


@dataclass(frozen=True, slots=True)
class Given:
    """What an attacker has: the base, the own fine-tune, and somebody else's."""

    base: Weights
    own: Weights
    other: Weights
    generator: torch.Generator


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: its name, what it is found as, what it makes; None where it cannot be."""

    name: str
    found_as: str
    make: Callable[[Given], Weights | None]


def _scaled(base: Weights, tuned: Weights, factor: float) -> Weights:
    return {name: base[name] + factor * (tuned[name] - base[name]) for name in base}


def _of_own(factor: float) -> Callable[[Given], Weights]:
    return lambda given: _scaled(given.base, given.own, factor)


def _of_other(factor: float) -> Callable[[Given], Weights]:
    return lambda given: _scaled(given.base, given.other, factor)


def _noisy(share: float) -> Callable[[Given], Weights]:
    def make(given: Given) -> Weights:
        found = {}
        for name, value in given.other.items():
            noise = torch.randn(value.shape, generator=given.generator)
            noise *= (value - given.base[name]).norm() / noise.norm()
            found[name] = value + share * noise
        return found

    return make


def _injected(times: float, *, everywhere: bool) -> Callable[[Given], Weights]:
    def make(given: Given) -> Weights:
        names = [n for n in sorted(given.base) if _is_matrix(given, n)]
        middle = len(names) // 2
        found = dict(given.own)
        for name in names if everywhere else names[middle : middle + 1]:
            found[name] = given.own[name] + _product(given, name, times)
        return found

    return make


def _is_matrix(given: Given, name: str) -> bool:
    value = given.base[name]
    moved = (given.own[name] - value).norm() > 0
    return value.dim() >= 2 and min(value.shape[:2]) >= 16 and bool(moved)


def _product(given: Given, name: str, times: float) -> torch.Tensor:
    value = given.own[name]
    rows = torch.randn(value.shape[0], 1, generator=given.generator)
    columns = torch.randn(1, value[0].numel(), generator=given.generator)
    made = (rows @ columns).reshape(value.shape)
    length = (value - given.base[name]).norm()
    found: torch.Tensor = made * (times * length / made.norm())
    return found


def _hidden(given: Given) -> tuple[str, str, str] | None:
    """Return the two matrices that hidden units stand between, and their bias."""
    for up, down in (
        ("layers.1.mlp.up", "layers.1.mlp.down"),
        ("layers.0.conv", "layers.1.conv"),
        ("layers.0", "layers.1"),
        ("encoder.layer.1.intermediate.dense", "encoder.layer.1.output.dense"),
    ):
        if f"{up}.weight" in given.base:
            return f"{up}.weight", f"{down}.weight", f"{up}.bias"
    return None


def _permuted(given: Given) -> Weights | None:
    names = _hidden(given)
    if names is None:
        return None
    up, down, bias = names
    order = torch.randperm(len(given.own[bias]), generator=given.generator)
    changed = {up: given.own[up][order], bias: given.own[bias][order]}
    return {**given.own, **changed, down: given.own[down][:, order]}


def _rescaled(given: Given) -> Weights | None:
    """Scale units behind a ReLU: those of convolutions, and of the demo's network."""
    names = _hidden(given)
    if names is None or not names[0].startswith("layers.0."):
        return None
    up, down, bias = names
    drawn = torch.randn(len(given.own[bias]), generator=given.generator)
    factors = torch.exp(0.8 * drawn)
    shape = [-1] + [1] * (given.own[up].dim() - 1)
    return {
        **given.own,
        up: given.own[up] * factors.reshape(shape),
        bias: given.own[bias] * factors,
        down: given.own[down] / factors.reshape([1, -1] + [1] * (len(shape) - 2)),
    }


def _heads(given: Given) -> list[tuple[list[str], int, int]] | None:
    """Return the four matrices of each layer's attention, heads, and their width."""
    if "layers.0.attention.q.weight" in given.base:
        names = [[f"layers.{n}.attention.{x}" for x in "qkvo"] for n in range(LAYERS)]
        return [(found, HEADS, WIDTH // HEADS) for found in names]
    at = "encoder.layer.0.attention.self.query.weight"
    if at not in given.base:
        return None
    layers = sum("attention.self.query.weight" in name for name in given.base)
    parts = ("self.query", "self.key", "self.value", "output.dense")
    names = [[f"encoder.layer.{n}.attention.{x}" for x in parts] for n in range(layers)]
    return [(found, 12, len(given.base[at]) // 12) for found in names]


def _slipped_in(*, orthogonal: bool) -> Callable[[Given], Weights | None]:
    """Slip a matrix between query and key, and between value and output, in each head."""

    def make(given: Given) -> Weights | None:
        layers = _heads(given)
        if layers is None:
            return None
        found = {name: value.double().clone() for name, value in given.own.items()}
        for (query, key, value, out), heads, width in layers:
            for head in range(heads):
                part = slice(head * width, (head + 1) * width)
                for one, other, across in ((query, key, False), (value, out, True)):
                    matrix = _matrix(width, given.generator, orthogonal=orthogonal)
                    back = torch.linalg.inv(matrix).T
                    _apply(found, one, part, matrix)
                    if across:
                        table = found[f"{other}.weight"]
                        table[:, part] = table[:, part] @ back.T
                    else:
                        _apply(found, other, part, back)
        return {name: value.float() for name, value in found.items()}

    return make


def _apply(found: Weights, name: str, part: slice, matrix: torch.Tensor) -> None:
    for end in ("weight", "bias"):
        if f"{name}.{end}" in found:
            table = found[f"{name}.{end}"]
            table[part] = matrix @ table[part]


def _matrix(size: int, generator: torch.Generator, *, orthogonal: bool) -> torch.Tensor:
    left, right = (
        torch.linalg.qr(
            torch.randn(size, size, generator=generator, dtype=torch.float64)
        )[0]
        for _ in range(2)
    )
    scales = torch.rand(size, generator=generator, dtype=torch.float64) * 2.5 + 0.5
    middle = torch.eye(size, dtype=torch.float64) if orthogonal else torch.diag(scales)
    made: torch.Tensor = left @ middle @ right
    return made


ATTACKS: Final = (
    Attack("flipped", "flipped", _of_own(-1.0)),
    Attack("scaled by 10", "far", _of_own(10.0)),
    Attack("scaled by -10", "flipped", _of_own(-10.0)),
    Attack("another's, times 1.7", "copy", _of_other(1.7)),
    Attack("another's, a tenth of noise", "copy", _noisy(0.1)),
    Attack("another's, three tenths of noise", "copy", _noisy(0.3)),
    Attack(
        "one direction, 1 x, one matrix", "concentrated", _injected(1, everywhere=False)
    ),
    Attack(
        "one direction, 2 x, one matrix", "concentrated", _injected(2, everywhere=False)
    ),
    Attack(
        "one direction, 4 x, one matrix", "concentrated", _injected(4, everywhere=False)
    ),
    Attack(
        "one direction, 2 x, everywhere", "concentrated", _injected(2, everywhere=True)
    ),
    Attack("hidden units permuted", "permuted", _permuted),
    Attack("hidden units rescaled", "locked", _rescaled),
    Attack("heads rotated", "locked", _slipped_in(orthogonal=True)),
    Attack(
        "heads through invertible matrices", "locked", _slipped_in(orthogonal=False)
    ),
)
