"""What stands out of a real fine-tune after an attack on it; of honest ones nothing does.

That a transform leaves the function alone is shown by running the model before and after.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from crdtmerge.scrutiny.findings import Finding, Report
from nodes.demo.training import Weights
from tests.fine_tunes import (
    Tuned,
    arrays,
    heads_moved,
    injected,
    locked,
    mlp,
    noisy,
    permuted,
    replaced,
    rescaled,
    rotated,
    scaled,
    transformer,
)
from tests.scrutiny import Group, names

LAST = 4
"""The fine-tune that is attacked."""

FAMILIES = (mlp, transformer)
Family = Callable[[], Tuned]

MATRIX: dict[Family, str] = {
    mlp: "layers.0.weight",
    transformer: "layers.1.mlp.up.weight",
}


def _group(tuned: Tuned, tunes: Sequence[Weights]) -> Group:
    return Group.of(arrays(tuned.base), [arrays(weights) for weights in tunes])


def _attacked(tuned: Tuned, weights: Weights) -> tuple[Group, list[Report]]:
    group = _group(tuned, replaced(tuned, LAST, weights))
    return group, group.reports()


def _only(report: Report, name: str) -> Finding:
    (found,) = [finding for finding in report.findings if finding.name == name]
    return found


def _clear(reports: Sequence[Report]) -> bool:
    return not any(report.findings for report in reports)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_stands_out_of_honest_fine_tunes(family: Family) -> None:
    """Five of one base, each on other images."""
    tuned = family()
    assert _clear(_group(tuned, tuned.tunes).reports())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_alone_do_not_stand_out(family: Family, count: int) -> None:
    """Of two either may be the odd one: nothing is said of distance and direction."""
    tuned = family()
    flipped = scaled(tuned.base, tuned.tunes[0], -10.0)
    reports = _group(tuned, [flipped, *tuned.tunes[1:count]]).reports()
    assert _clear(reports)
    assert all(report.standing.ratio is None for report in reports)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_flipped_task_vector_points_against_the_others(family: Family) -> None:
    tuned = family()
    _, reports = _attacked(tuned, scaled(tuned.base, tuned.tunes[LAST], -1.0))
    found = _only(reports[LAST], "flipped")
    assert found.severity == "warning"
    honest = _group(tuned, tuned.tunes).reports()[LAST].standing
    assert found.figures["agreement"] == pytest.approx(-(honest.agreement or 0), 1e-4)
    assert _clear(reports[:LAST])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_scaled_task_vector_is_far(family: Family) -> None:
    tuned = family()
    _, reports = _attacked(tuned, scaled(tuned.base, tuned.tunes[LAST], 10.0))
    assert names(reports[LAST]) == ["far"]
    assert reports[LAST].findings[0].severity == "warning"
    honest = _group(tuned, tuned.tunes).reports()[LAST].standing
    ratio = reports[LAST].findings[0].figures["ratio"]
    assert ratio == pytest.approx(10 * (honest.ratio or 0), 1e-4)
    assert _clear(reports[:LAST])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("factor", [0.3, 1.7, -1.0])
def test_a_multiple_of_anothers_task_vector_is_a_copy(
    family: Family, factor: float
) -> None:
    """Both are told, each with the factor from its side."""
    tuned = family()
    group, reports = _attacked(tuned, scaled(tuned.base, tuned.tunes[0], factor))
    mine, theirs = _only(reports[LAST], "copy"), _only(reports[0], "copy")
    assert mine.severity == theirs.severity == "warning"
    assert (mine.against, theirs.against) == (group.content(0), group.content(LAST))
    assert mine.figures["factor"] == pytest.approx(factor, 1e-3)
    assert theirs.figures["factor"] == pytest.approx(1 / factor, 1e-3)
    assert _clear(reports[1:LAST])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_with_noise_is_near(family: Family) -> None:
    """A tenth of noise makes no other model of it."""
    tuned = family()
    group, reports = _attacked(tuned, noisy(tuned.base, tuned.tunes[0], 0.1))
    assert names(reports[LAST]) == ["copy"]
    assert reports[LAST].findings[0].against == group.content(0)
    assert reports[LAST].findings[0].severity == "notice"
    assert names(reports[0]) == ["copy"]
    assert _clear(reports[1:LAST])


def test_tensors_of_another_are_seen_by_their_bytes() -> None:
    """Half of another's work under a second name."""
    tuned = mlp()
    taken = {n: tuned.tunes[0][n] for n in ("layers.0.weight", "layers.0.bias")}
    group, reports = _attacked(tuned, {**tuned.tunes[LAST], **taken})
    found = _only(reports[LAST], "shares")
    assert found.against == group.content(0)
    assert set(found.where) == set(taken)
    changed = sum(v.numel() for v in tuned.base.values() if v.numel() >= 64)
    same = sum(value.numel() for value in taken.values())
    assert found.figures == {"tensors": 2, "share": pytest.approx(same / changed)}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_put_into_one_direction_stands_out(family: Family) -> None:
    """A product of two vectors, twice as long as the task vector of that matrix."""
    tuned = family()
    name = MATRIX[family]
    weights = injected(tuned.base, tuned.tunes[LAST], name, 2.0)
    _, reports = _attacked(tuned, weights)
    found = _only(reports[LAST], "concentrated")
    assert found.where == (name,)
    tau = arrays(weights)[name].astype(np.float64) - arrays(tuned.base)[name]
    values = np.linalg.svd(tau, compute_uv=False) ** 2
    assert found.figures["share"] == pytest.approx(values[0] / values.sum(), rel=2e-3)
    assert _clear(reports[:LAST])


TRANSFORMS = (
    (mlp, permuted, "permuted"),
    (mlp, rescaled, "rescaled"),
    (transformer, rotated, "rotated"),
    (transformer, locked, "locked"),
    (transformer, heads_moved, "permuted"),
)


@pytest.mark.parametrize(("family", "transform", "name"), TRANSFORMS)
def test_what_keeps_the_function_and_moves_the_weights_is_seen(
    family: Family, transform: Callable[[Weights], Weights], name: str
) -> None:
    """The outputs are those of before; the weights are seen through, also alone."""
    tuned = family()
    before, weights = tuned.tunes[LAST], transform(tuned.tunes[LAST])
    logits = tuned.logits(before)
    assert np.allclose(tuned.logits(weights), logits, atol=1e-4 * np.abs(logits).max())
    _, reports = _attacked(tuned, weights)
    found = _only(reports[LAST], name)
    assert found.severity == "warning"
    assert "locked" in names(reports[LAST])
    assert _clear(reports[:LAST])
    alone = _group(tuned, [weights]).reports()[0]
    assert name in names(alone)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_moves_by_itself_is_no_disguise(family: Family) -> None:
    """Noise as long as the base, and ten times the training: far, and nothing hidden."""
    tuned = family()
    for weights in (
        scaled(tuned.base, tuned.tunes[LAST], 10.0),
        noisy(scaled(tuned.base, tuned.tunes[LAST], -1.0), tuned.base, 1.0),
    ):
        found = names(_group(tuned, [weights]).reports()[0])
        assert not {"permuted", "rescaled", "rotated", "locked"} & set(found)
