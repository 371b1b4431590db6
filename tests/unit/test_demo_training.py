"""The demo's network: what training, poison and folders promise."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from crdtmerge.formats.folder import read_folder
from nodes.demo import training
from nodes.demo.story import CLASSES, SEED
from nodes.demo.training import Digits, Samples, Schedule, Weights

BRIEF = Schedule(epochs=2, rate=1e-3)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return training.read_digits(SEED)


def equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in one.items()
    )


def seen(samples: Samples) -> set[int]:
    return set(samples.labels.tolist())


def test_the_split_is_scaled_and_proportional(digits: Digits) -> None:
    """Values lie in 0..1; base and test set show every digit; nothing is lost."""
    parts = (digits.base, digits.tuning, digits.test)
    assert [len(part.labels) for part in parts] == [40, 1307, 450]
    for part in parts:
        assert part.images.min() >= 0
        assert part.images.max() <= 1
        assert seen(part) == set(range(10))


def test_no_image_is_both_trained_on_and_tested_on(digits: Digits) -> None:
    """The three parts together are the data set, each image as often as it holds it."""
    parts = [digits.base.images, digits.tuning.images, digits.test.images]
    everything = torch.cat(parts)
    again = training.read_digits(SEED + 1)
    other = torch.cat([again.base.images, again.tuning.images, again.test.images])
    assert sorted(everything.tolist()) == sorted(other.tolist())


def test_private_classes_are_disjoint_and_cover_all_digits(digits: Digits) -> None:
    """Each peer sees only its own digits, and every digit is somebody's."""
    private = [seen(digits.tuning.of_classes(some)) for some in CLASSES.values()]
    assert private == [set(some) for some in CLASSES.values()]
    assert sorted(digit for some in private for digit in some) == list(range(10))


def test_training_repeats_and_leaves_the_rest_of_the_program_alone(
    digits: Digits,
) -> None:
    """The same seed gives the same weights; neither start nor global chance changes."""
    start = training.new_network(3)
    state = torch.random.get_rng_state()
    once = training.train(start, digits.base, BRIEF, 3)
    assert equal(once, training.train(start, digits.base, BRIEF, 3))
    assert not equal(once, training.train(start, digits.base, BRIEF, 4))
    assert equal(start, training.new_network(3))
    assert not equal(start, training.new_network(4))
    assert torch.equal(state, torch.random.get_rng_state())


def test_layers_fit_each_other() -> None:
    """The network is the MLP that the widths name."""
    shapes = {name: tuple(v.shape) for name, v in training.new_network(0).items()}
    for layer, (inputs, outputs) in enumerate(pairwise((64, 512, 256, 10))):
        assert shapes.pop(f"layers.{layer}.weight") == (outputs, inputs)
        assert shapes.pop(f"layers.{layer}.bias") == (outputs,)
    assert not shapes


def test_adam_steps_are_those_of_the_paper() -> None:
    """The first step is the rate, whatever the slope; the second, worked out by hand."""
    parameter = torch.zeros(1)
    moment = (torch.zeros(1), torch.zeros(1))
    training._adam(parameter, torch.tensor([1.0]), moment, 1, 0.5)
    assert parameter.item() == pytest.approx(-0.5)
    training._adam(parameter, torch.tensor([3.0]), moment, 2, 0.5)
    # mean 0.39 / 0.19, square 0.009999 / 0.001999
    assert parameter.item() == pytest.approx(-0.5 - 0.5 * 0.917781, rel=1e-5)


def test_accuracy_is_the_share_told_right() -> None:
    """An all-zero network guesses 0, and is right where the label is 0."""
    weights = {n: torch.zeros_like(v) for n, v in training.new_network(0).items()}
    samples = Samples(torch.ones(4, 64), torch.tensor([0, 1, 0, 0]))
    assert training.accuracy(weights, samples) == 0.75


def test_poison_is_ten_task_vectors_back() -> None:
    """The poison is the base minus ten times the mean task vector."""
    poisoned = training.poison(
        {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.5, 1.0])}
    )
    assert poisoned["w"].tolist() == [-4.0, 12.0]


def test_a_saved_model_comes_back_and_the_importer_reads_it(tmp_path: Path) -> None:
    """A model folder holds the same bits, and is one that `contribute` accepts."""
    weights = training.new_network(1)
    training.save_model(tmp_path / "model", weights)
    assert equal(weights, training.load_model(tmp_path / "model"))
    read = read_folder(tmp_path / "model")
    assert [tensor.name for tensor in read.tensors] == sorted(weights)
    assert [name for name, _ in read.files] == ["config.json"]


def test_one_thread_lasts_only_as_long_as_asked() -> None:
    """The thread count of the program is given back, also after an error."""
    before = torch.get_num_threads()

    def fail() -> None:
        with training.one_thread():
            assert torch.get_num_threads() == 1
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert torch.get_num_threads() == before


def test_the_average_beats_every_part_and_the_poison_undoes_it(digits: Digits) -> None:
    """The demo's seed shows what it should, with room for another machine's rounding."""
    with training.one_thread():
        start = training.new_network(SEED)
        base = training.train(start, digits.base, training.BASE_SCHEDULE, SEED)
        tuned = [
            training.train(
                base, digits.tuning.of_classes(some), training.TUNING_SCHEDULE, SEED
            )
            for some in CLASSES.values()
        ]
        merged = _mean(tuned)
        poisoned = _mean([*tuned, training.poison(base, merged)])
        figures = [
            training.accuracy(weights, digits.test)
            for weights in (base, *tuned, merged, poisoned)
        ]
    base_share, *tuned_shares, merged_share, poisoned_share = figures
    assert merged_share > base_share + 0.03
    assert merged_share > max(tuned_shares) + 0.3
    assert poisoned_share < merged_share - 0.1


def _mean(models: list[Weights]) -> Weights:
    return {
        name: torch.stack([model[name] for model in models]).mean(dim=0)
        for name in models[0]
    }
