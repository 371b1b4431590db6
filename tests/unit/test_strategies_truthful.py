"""What strategies read is what they declare: it is changed, and the bytes tell.

Task keys hold a tensor's layer, name, seed and contents only where these are declared, and
adapters are merged on zeros only where `shifts` says so: a lie there gives wrong models.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.digest import BlobId, ContentId
from crdtmerge.errors import BadInputError
from crdtmerge.manifest import Manifest
from crdtmerge.resolve.ground import Footing
from crdtmerge.resolve.plan import make_plan
from crdtmerge.strategies import STRATEGIES, Inputs
from tests.models import contribution_of, make_merge, recipe_of, told
from tests.strategies import base_of, data_of, resolve, task, with_own

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "doge/1": {"iterations": "20"},
    "karcher/1": {"max_iter": "3"},
    "knots/1": {"votes": "dare_ties"},
    "passthrough/1": {"scale": "2"},
}
"""Where defaults hide what other parameters show."""

STANDS_STILL = {
    "arcee_fusion/1",
    "karcher/1",
    "passthrough/1",
    "slerp/1",
    "weight_scope_alignment/1",
    "widen/1",
}


def many(name: str, *, ties: bool) -> Inputs:
    """Seven contributions to a matrix; with `ties` items and distances are often equal."""
    generator = np.random.default_rng(5)
    if ties:
        base = generator.integers(-3, 4, (12, 6)) / 4
        tunes = [base + generator.integers(-2, 3, (12, 6)) / 8 for _ in range(7)]
    else:
        base = generator.standard_normal((12, 6))
        tunes = [base + generator.standard_normal((12, 6)) / 16 for _ in range(7)]
    found = task(name, "F32", tunes, base, **SETTINGS.get(name, {}))
    if name == "layer_swap/1":
        return with_own(found, *({"part": part} for part in ["outer", "inner"] * 3), {})
    return found


@pytest.mark.parametrize("name", STRATEGIES)
def test_only_who_says_so_reads_the_layer(name: str) -> None:
    """Else two tensors of equal bytes would share a task that has two results."""
    inputs = many(name, ties=False)
    layers = [None, (0, 16), (4, 16), (8, 16), (15, 16), (8, 9)]
    seen = {resolve(name, replace(inputs, layer=layer)) for layer in layers}
    assert (len(seen) > 1) == STRATEGIES[name].by_layer


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", STRATEGIES)
def test_only_who_says_so_reads_contents_names_and_seeds(
    name: str, *, ties: bool
) -> None:
    """Other digests in the same order, another name: nothing, but to masks and folds.

    The first byte stays: made-up numbers go by it (`tests.evidence`).
    """
    inputs, strategy = many(name, ties=ties), STRATEGIES[name]
    before = resolve(name, inputs)
    contents = tuple(ContentId(bytes([i, *[9 + 3 * i] * 31])) for i in range(7))
    keyed = strategy.draws or strategy.order_dependent
    assert (resolve(name, replace(inputs, contents=contents)) != before) == keyed
    renamed = resolve(name, replace(inputs, tensor="v"))
    assert (renamed != before) == strategy.draws
    seeds = [bytes([seed]) * 32 for seed in range(5)]
    seen = {resolve(name, replace(inputs, seed=seed)) for seed in seeds}
    assert (len(seen) > 1) == keyed


@pytest.mark.parametrize("name", STRATEGIES)
def test_who_shifts_gives_the_merged_task_vector_on_zeros(name: str) -> None:
    """On zeros, plus the base, is the merge on the base, and only for who says so."""
    inputs = many(name, ties=False)
    base = numerics.upcast(base_of(inputs), "F32")
    taus = tuple(
        numerics.task_vector(numerics.upcast(data_of(theta), "F32"), base, "theta")
        for theta in inputs.contributions
    )
    exponent = numerics.inspect(base_of(inputs), "F32").exponent
    zeros = bytes(4 * inputs.items)
    on_zeros = replace(inputs, base=zeros, contributions=taus, exponent=exponent)
    merged = numerics.upcast(resolve(name, on_zeros), "F32")
    whole = numerics.upcast(resolve(name, inputs), "F32")
    away = float(np.abs(base + merged - whole).max())
    assert (away < 2.0**-22) == STRATEGIES[name].shifts(inputs.values)


@pytest.mark.parametrize(
    "name",
    [n for n, s in STRATEGIES.items() if not s.needs_base and not s.prefers_base],
)
def test_who_does_not_say_so_reads_no_base_that_is_there(name: str) -> None:
    """An adapter merges whole tensors on nothing, where that changes no bit."""
    inputs = many(name, ties=True)
    exponent = numerics.inspect(base_of(inputs), "F32").exponent
    bases = (base_of(inputs), np.full(inputs.items, 2.0, "<f4").tobytes(), None)
    seen = {resolve(name, replace(inputs, base=b, exponent=exponent)) for b in bases}
    assert len(seen) == 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_changes_alone_are_merged_only_by_who_moves_with_the_base(name: str) -> None:
    """An arc, or a column beside the base's, would silently be one beside zeros."""
    merge = make_merge()
    entries = tuple(e for e in merge.base.tensors if e.name == "block.weight")
    changes = [  # as many as any strategy asks for, of one tensor with different blobs
        contribution_of(Manifest("delta", merge.base.content_id, (replace(e, blob=b),)))
        for e in entries
        for b in (BlobId(bytes([i]) * 32) for i in range(3))
    ]
    recipe, zero = recipe_of(name), Footing("zero")
    changes = list(told(replace(merge, contributions=tuple(changes)), recipe))
    if name in STANDS_STILL:
        with pytest.raises(BadInputError, match="looks at whole weights"):
            make_plan(recipe, merge.base, changes, footing=zero)
    else:
        plan = make_plan(recipe, merge.base, changes, footing=zero)
        assert [frame.ground for frame in plan.frames.values()] == ["zero"]
