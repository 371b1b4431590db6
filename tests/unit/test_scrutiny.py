"""Figures of scrutiny against NumPy in float64, and what they are kept by."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crdtmerge import numerics, scrutiny
from crdtmerge.errors import ContractError
from crdtmerge.formats.progress import Progress
from crdtmerge.resolve.memo import Known, Measures
from crdtmerge.scrutiny import lines
from crdtmerge.scrutiny.measuring import Bounds
from tests.arithmetic import violations
from tests.scrutiny import Group, manifest_of, names

Array = NDArray[np.float32]
SHAPES = {"layers.0.weight": (96, 64), "layers.0.bias": (96,), "head": (10, 96)}


def _random(seed: int, scale: float) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) * scale).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def _plus(one: dict[str, Array], *others: dict[str, Array]) -> dict[str, Array]:
    return {
        name: np.sum([value, *(o[name] for o in others)], axis=0, dtype=np.float32)
        for name, value in one.items()
    }


BASE = _random(0, 0.1)
COMMON = _random(1, 0.01)
TUNES = [_plus(BASE, COMMON, _random(seed, 0.01)) for seed in range(2, 7)]
"""Fine-tunes whose task vectors have a half of their energy in common."""


def _tau(tune: dict[str, Array]) -> NDArray[np.float64]:
    parts = [
        tune[n].astype(np.float64) - BASE[n].astype(np.float64) for n in sorted(BASE)
    ]
    return np.concatenate([part.reshape(-1) for part in parts])


def test_figures_are_those_of_numpy() -> None:
    """Distance, ratio, agreement, the nearest and its factor, from whole vectors."""
    reports = Group.of(BASE, TUNES).reports()
    taus = [_tau(tune) for tune in TUNES]
    lengths = [float(np.linalg.norm(tau)) for tau in taus]
    base = np.concatenate([BASE[n].reshape(-1) for n in sorted(BASE)]).astype(float)
    cosines = np.array(
        [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in taus] for a in taus]
    )
    for place, report in enumerate(reports):
        others = [other for other in range(len(taus)) if other != place]
        standing = report.standing
        assert standing.relative == pytest.approx(lengths[place] / np.linalg.norm(base))
        middle = np.median([lengths[other] for other in others])
        assert standing.ratio == pytest.approx(lengths[place] / middle)
        agreement = np.median([cosines[place, other] for other in others])
        assert standing.agreement == pytest.approx(agreement)
        pairs = [cosines[a, b] for a in others for b in others if a < b]
        assert standing.typical == pytest.approx(np.median(pairs))
        best = max(others, key=lambda other: abs(cosines[place, other]))
        assert report.nearest is not None
        assert report.nearest.content == Group.of(BASE, TUNES).content(best)
        factor = taus[place] @ taus[best] / (taus[best] @ taus[best])
        assert report.nearest.factor == pytest.approx(factor)
        assert names(report) == []


def test_first_directions_are_those_of_numpy() -> None:
    """The share of the first singular value, over all matrices together."""
    for tune, report in zip(TUNES, Group.of(BASE, TUNES).reports(), strict=True):
        first = total = 0.0
        for name in ("layers.0.weight", "head"):
            tau = tune[name].astype(np.float64) - BASE[name]
            values = np.linalg.svd(tau, compute_uv=False)
            first += values[0] ** 2
            total += (values**2).sum()
        # Of noise the steps are too few to tell the first direction from the next.
        assert report.concentration is not None
        assert 0.8 * first <= report.concentration * total <= 1.0001 * first


def test_reports_do_not_depend_on_order_or_backend() -> None:
    """The same contributions in another order, and the reference alone: equal reports."""
    forth = Group.of(BASE, TUNES).reports()
    back = Group.of(BASE, TUNES[::-1]).reports()
    assert forth == back[::-1]
    with numerics.forced("reference"):
        assert Group.of(BASE, TUNES).reports() == forth


class Kept:
    """A memo in memory."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Measures] = {}

    def outputs(self, _keys: Iterable[bytes]) -> Mapping[bytes, Sequence[Known]]:
        """Return nothing: no output is made here."""
        return {}

    def measures(self, keys: Iterable[bytes]) -> Mapping[bytes, Measures]:
        """Return what was kept."""
        return {key: self.rows[key] for key in keys if key in self.rows}

    def keep(
        self,
        outputs: Mapping[bytes, Known],  # noqa: ARG002  the protocol's
        measures: Mapping[bytes, Measures],
    ) -> None:
        """Keep measures."""
        self.rows.update(measures)


def test_one_more_costs_its_own_figures() -> None:
    """What is known of the others is kept, and gives the report of a fresh look."""
    memo = Kept()
    Group.of(BASE, TUNES[:4]).measure(memo)
    before = dict(memo.rows)
    group = Group.of(BASE, TUNES)
    measured = group.measure(memo)
    assert before.items() <= memo.rows.items()
    # A row for each pair with the new one, the base and itself; and one of its own.
    assert len(memo.rows) - len(before) == 6 + 1
    assert group.reports(measured) == group.reports()
    assert group.measure(memo).read == 0


def test_a_bound_leaves_out_tensors_and_not_figures() -> None:
    """What was not measured of the newest is not looked at of the others either."""
    memo = Kept()
    Group.of(BASE, TUNES[:4]).measure(memo)
    group = Group.of(BASE, TUNES)
    largest = max(np.prod(shape) for shape in SHAPES.values())
    measured = group.measure(memo, Bounds(read=int(largest) * 4 * 6 - 1))
    looked_at = [measured.company.tensors[t].name for t in measured.looked_at]
    assert looked_at == ["head", "layers.0.bias"]
    for report in group.reports(measured):
        assert names(report) == []
        assert np.isfinite(report.standing.ratio or np.nan)
        assert np.isfinite(report.standing.agreement or np.nan)


def test_who_has_no_figures_is_named_and_moves_nobody_elses() -> None:
    """NaN in one contribution; whatever is kept, it is found again."""
    broken = {name: value.copy() for name, value in TUNES[4].items()}
    broken["head"][3, 5] = np.nan
    memo = Kept()
    group = Group.of(BASE, [*TUNES[:4], broken])
    for _ in range(2):
        measured = group.measure(memo)
        *others, last = group.reports(measured)
        assert names(last) == ["faulty"]
        assert "NaN" in measured.faulty[group.content(4)]
        assert others == Group.of(BASE, TUNES[:4]).reports()


def test_whoever_changes_nothing_does_not_stand_out() -> None:
    """The base itself has no direction; it is nobody's copy."""
    *others, last = Group.of(BASE, [*TUNES, BASE]).reports()
    assert names(last) == []
    assert last.standing.relative == 0
    assert last.nearest is None
    assert not any(names(report) for report in others)


def test_an_adapter_is_looked_at_through_its_product() -> None:
    """A pair of factors and the whole model that it makes are one another's multiples."""
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((4, 64), (96, 4)))
    name = "layers.0.weight"
    a, b = a * np.float32(0.1), b * np.float32(0.1)
    whole = {**BASE, name: BASE[name] + np.float32(0.5) * (b @ a)}
    group = Group.of(BASE, [*TUNES, whole])
    factors: dict[str, NDArray[Any]] = {
        f"{name}.lora_A": a,
        f"{name}.lora_B": b,
        f"{name}.lora_scale": np.array(0.25),
    }
    made = manifest_of(factors, group.blobs, "lora", group.base.content_id)
    group.tunes.append(made)
    adapter = group.reports()[-1]
    (copy,) = [found for found in adapter.findings if found.name == "copy"]
    assert copy.against == group.content(5)
    assert "concentrated" not in names(adapter)
    assert copy.figures["factor"] == pytest.approx(0.5, rel=1e-5)


def test_a_large_tensor_is_looked_at_in_a_part_of_its_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows in another order are seen though no whole row is held."""
    rng = np.random.default_rng(4)
    base = {"w": rng.standard_normal((300, 200)).astype(np.float32)}
    order = rng.permutation(300)
    monkeypatch.setattr(lines, "VALUES_MAX", 300 * 40)
    moved = {"w": base["w"][order]}
    across = {"w": np.ascontiguousarray(base["w"][:, rng.permutation(200)])}
    noise = {"w": rng.standard_normal((300, 200)).astype(np.float32)}
    found = [names(r) for r in Group.of(base, [moved, across, noise]).reports()]
    assert found == [["permuted"], ["permuted"], []]


def test_grouped_queries_are_seen_through() -> None:
    """Two key heads serve four query heads: an invertible matrix for each key head."""
    rng = np.random.default_rng(5)
    width, query, key = 8, "layers.0.q_proj.weight", "layers.0.k_proj.weight"
    base = {
        query: rng.standard_normal((4 * width, 48)).astype(np.float32),
        key: rng.standard_normal((2 * width, 48)).astype(np.float32),
    }
    found = {name: value.astype(np.float64) for name, value in base.items()}
    for head in range(2):
        matrix = rng.standard_normal((width, width)) + 2 * np.eye(width)
        part = slice(head * width, (head + 1) * width)
        before = found[key][part].copy()
        found[key][part] = np.linalg.inv(matrix).T @ before
        for group in (2 * head, 2 * head + 1):
            rows = slice(group * width, (group + 1) * width)
            scores = found[query][rows].T @ before
            found[query][rows] = matrix @ found[query][rows]
            assert np.allclose(found[query][rows].T @ found[key][part], scores)
    (report,) = Group.of(
        base, [{n: v.astype(np.float32) for n, v in found.items()}]
    ).reports()
    locked = [f for f in report.findings if f.name == "locked"]
    assert [f.where for f in locked] == [(f"{key} and {query}",)]


def test_the_base_in_another_dtype_is_nobodys_work() -> None:
    """Two leave a layer alone and save it as float16: equal bytes, and no copy."""
    kept = "layers.0.weight"
    halves = [
        {n: v.astype(np.float16) for n, v in {**tune, kept: BASE[kept]}.items()}
        for tune in TUNES[:2]
    ]
    for report in Group.of(BASE, [*halves, *TUNES[2:]]).reports():
        assert "shares" not in names(report)


SOURCES = sorted(Path(scrutiny.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_scrutiny_does_single_operations_only(source: Path) -> None:
    """As strategies: sums and products are those of numerics."""
    assert violations(source.read_text()) == []


@pytest.mark.parametrize(
    "tensors",
    [{"ids": np.arange(5)}, {"none": np.zeros((0, 5), np.float32)}],
    ids=["whole numbers", "empty"],
)
def test_a_model_without_a_value_to_compare_has_nothing_found(
    tensors: dict[str, NDArray[Any]],
) -> None:
    """No tensor is looked at, and nothing breaks for it."""
    group = Group.of(tensors, [{name: v.copy() for name, v in tensors.items()}])
    measured = group.measure()
    assert measured.looked_at == []
    assert [names(report) for report in group.reports(measured)] == [[]]


def test_what_lies_beyond_float32_is_one_contribution_s_fault() -> None:
    """Finite, but its task vector is not: it is faulty, and the others are judged."""
    wide = TUNES[0] | {"head": np.full(SHAPES["head"], 1e300)}
    group = Group.of(BASE, [wide, *TUNES[1:]])
    measured = group.measure()
    assert list(measured.faulty) == [group.content(0)]
    assert "beyond float32" in measured.faulty[group.content(0)]
    without = Group.of(BASE, TUNES[1:]).reports()
    assert group.reports(measured)[1:] == without


def test_of_a_base_that_is_no_number_no_contribution_is_blamed() -> None:
    """Nothing can be measured beside it, and the message names the base."""
    base = BASE | {"head": np.full(SHAPES["head"], np.nan, np.float32)}
    with pytest.raises(ContractError, match="the base's tensor 'head'"):
        Group.of(base, TUNES).measure()


def test_pairs_too_are_bounded_in_bytes_and_tell_how_far_they_are() -> None:
    """Of a far model they read it again, each tensor once a layer that it is in."""
    rng = np.random.default_rng(9)
    shapes = {f"layers.{n}.{name}": (24, 24) for n in range(3) for name in "kqvo"}
    base, far = (
        {name: rng.standard_normal(shape).astype(np.float32) for name, shape in each}
        for each in (shapes.items(), shapes.items())
    )
    group = Group.of(base, [far])
    told: list[Progress] = []
    free = group.measure(bounds=Bounds(report=told.append))
    size = sum(value.nbytes for value in base.values())
    # Both models; then three layers of both, and the two places between layers.
    assert told[-1].done == told[-1].total == 2 * size + 2 * 2 * (2 * size // 3)
    assert free.read == 2 * size + told[-1].total
    bound = group.measure(bounds=Bounds(read=4 * size))
    assert bound.looked_at == free.looked_at
    assert 2 * size < bound.read <= 3 * size
    seen = ~np.isnan(bound.partners)
    assert 0 < seen.sum() < seen.size
    assert np.array_equal(bound.partners[seen], free.partners[seen])
