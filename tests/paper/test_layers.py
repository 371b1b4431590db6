"""Tier 2: whole models in files, layer by layer, and joins that are broken."""

from pathlib import Path

import pytest

from simulations.paper import layers
from simulations.paper.catalogue import Choice, catalogue
from simulations.paper.large_models import (
    GPT2_MEDIUM,
    MISTRAL_BLOCK,
    SMALL,
    TINY_LLAMA,
    Sizes,
    gpt2,
    make_models,
    tune_models,
)
from simulations.paper.laws import Wire
from simulations.paper.replicas import State

WHY = (
    "tensor 'h.0.attn.c_attn.bias': layer_swap with bottom=1 and top=1 leaves no inner"
    " layers of 1"
)
TINY = Sizes("tiny", "for tests", "F32", tuple(gpt2(4, 1))[2:])


def chosen(name: str) -> Choice:
    """Return one strategy."""
    (choice,) = catalogue((name,))
    return choice


@pytest.mark.parametrize(
    ("sizes", "millions"),
    [(GPT2_MEDIUM, 354.8), (TINY_LLAMA, 1100.0), (MISTRAL_BLOCK, 218.1)],
)
def test_shapes_are_those_of_the_public_configurations(
    sizes: Sizes, millions: float
) -> None:
    """By their parameters, as published."""
    assert round(sizes.parameters / 1e6, 1) == millions


def test_every_tensor_is_compared_under_every_law(tmp_path: Path) -> None:
    """And all are of the merge, not of the base."""
    held = layers.Held.of(make_models(tmp_path, TINY))
    row = layers._strategy(chosen("slerp"), held, layers.LAWS)
    count = len(TINY.shapes)
    assert row["layer_checks"] == row["layers_equal"] == count * len(layers.LAWS)
    assert row["tensors_unlike_the_base"] == count
    assert row["laws"] == dict.fromkeys(layers.LAWS, True)


def test_a_join_that_loses_a_contribution_is_caught(tmp_path: Path) -> None:
    """Not every tensor is equal then, and the law is not kept."""
    held = layers.Held.of(make_models(tmp_path, TINY))
    tunes = held.tunes

    def forgetful(_join: layers.Join, a: State, _b: State, _c: State) -> State:
        return a

    one = layers.Held(held.base, tunes, held.source)
    with pytest.raises(AssertionError):
        layers._strategy(chosen("linear"), one, {"forgetful": forgetful})


def test_equal_digests_are_of_equal_models_alone(tmp_path: Path) -> None:
    """Models of other fine-tunes have other digests in every tensor."""
    held = layers.Held.of(make_models(tmp_path, TINY))
    _, (a, b, c) = held.states(chosen("linear"))
    swapped = layers.Held(held.base, held.tunes[:1] * 2 + held.tunes[2:], held.source)
    spans: list[layers.Span] = []
    ours = layers._resolve(held, layers.REFERENCE(Wire(), a, b, c), spans)
    _, others = swapped.states(chosen("linear"))
    theirs = layers.Held(held.base, held.tunes[:2], held.source)
    found = layers._resolve(theirs, Wire()(others[0], others[2]), spans)
    assert ours.keys() == found.keys()
    assert all(ours[name] != found[name] for name in ours)


def test_fine_tunes_of_a_model_on_disk_differ_from_it(tmp_path: Path) -> None:
    """As the real MiniLM's do, whose weights nobody draws."""
    base, *_ = make_models(tmp_path / "made", TINY)
    held = layers.Held.of(tune_models(tmp_path / "tuned", base))
    blobs = [{e.blob for e in m.tensors} for m in (held.base, *held.tunes)]
    assert len(blobs) == 4
    assert not blobs[0] & blobs[1]


def test_figures_of_a_model_add_up(tmp_path: Path) -> None:
    """What is counted was run, and what is refused is named."""
    paths = [folder.path for folder in make_models(tmp_path, TINY)]
    work = layers.Work(TINY, ("linear", "layer_swap"), each_law=("linear",))
    found = layers._check((work, paths))
    assert found["strategy_tests"] == 4
    assert found["layer_checks"] == found["layer_checks_passed"]
    assert found["layer_checks"] == 4 * len(TINY.shapes)
    assert found["refused"] == [{"strategy": "layer_swap/1", "why": WHY}]
    assert found["peak_resident_bytes"] != 0
    assert SMALL.parameters > TINY.parameters
