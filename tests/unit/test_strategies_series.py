"""wsm and pma: checkpoints in order of their steps, against recursions on vectors."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from crdtmerge import numerics
from crdtmerge.errors import ContractError
from crdtmerge.numerics import Floats
from crdtmerge.strategies import Inputs
from tests.strategies import UNIT, resolve, sample, shuffled, task, with_own

STEPS = (300, 20, 1000, 7, 500)
ORDER = (3, 1, 0, 4, 2)

DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + np.cos(np.pi * x)) / 2,
    "sqrt": lambda x: 1 - np.sqrt(x),
}


def series(
    name: str, steps: Sequence[int] = STEPS, **parameters: str
) -> tuple[Inputs, list[Floats]]:
    """A task in an order of no meaning, and its checkpoints from first to last."""
    base, tunes = sample(90, len(steps))
    inputs = task(name, "F64", tunes, base, **parameters)
    inputs = with_own(inputs, *({"step": str(step)} for step in steps))
    return inputs, [tunes[i] for i in np.argsort(steps)]


def made(name: str, inputs: Inputs) -> Floats:
    return numerics.upcast(resolve(name, inputs), "F64")


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_wsm_is_the_decayed_sum_of_updates(decay: str, count: int) -> None:
    """From the first checkpoint on, each update is as long as its decayed rate says."""
    inputs, tunes = series("wsm", STEPS[:count], decay=decay)
    expected = tunes[0].copy()
    for j in range(1, count):
        expected += DECAYS[decay](j / count) * (tunes[j] - tunes[j - 1])
    np.testing.assert_allclose(made("wsm", inputs), expected, atol=1e-7)


def test_wsm_with_linear_decay_and_sma_are_the_uniform_mean() -> None:
    """Byte for byte, for weights too: these multiply."""
    for weights in ((UNIT,) * 5, (UNIT, 5, UNIT // 3, 2 * UNIT, UNIT)):
        base, tunes = sample(90, 5)
        linear = task("linear", "F64", tunes, base)
        expected = resolve("linear", replace(linear, weights=weights))
        plain, _ = series("wsm")
        assert resolve("wsm", replace(plain, weights=weights)) == expected
        other, _ = series("pma")
        assert resolve("pma", replace(other, weights=weights)) == expected


def test_pma_ema_is_the_recursion() -> None:
    """It starts at the first checkpoint."""
    inputs, tunes = series("pma", average="ema", alpha="0.3")
    expected = tunes[0]
    for tune in tunes[1:]:
        expected = 0.7 * expected + 0.3 * tune
    np.testing.assert_allclose(made("pma", inputs), expected, atol=1e-7)
    inputs, _ = series("pma", average="ema", alpha="1")
    assert resolve("pma", inputs) == resolve("pma", shuffled(inputs, ORDER[-1:]))


def test_pma_wma_grows_with_the_order() -> None:
    """1 to 5, times the weights, divided by their sum."""
    inputs, tunes = series("pma", average="wma")
    inputs = replace(inputs, weights=(UNIT, UNIT, 4 * UNIT, UNIT, UNIT))
    parts = np.array([1, 2, 3, 4, 20]) / 30
    expected = sum(part * tune for part, tune in zip(parts, tunes, strict=True))
    np.testing.assert_allclose(made("pma", inputs), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["wsm", "pma"])
def test_only_the_order_of_steps_counts(name: str) -> None:
    """Intervals are taken for equal."""
    word, value = ("decay", "sqrt") if name == "wsm" else ("average", "wma")
    inputs, _ = series(name, STEPS, **{word: value})
    other, _ = series(name, (3, 2, 999_999_999, 1, 4), **{word: value})
    assert resolve(name, inputs) == resolve(name, other)
    turned, _ = series(name, STEPS[::-1], **{word: value})
    assert resolve(name, inputs) != resolve(name, turned)


@pytest.mark.parametrize("name", ["wsm", "pma"])
@pytest.mark.parametrize(
    ("steps", "fault"),
    [((5, 0, 7), "needs its step"), ((5, 7, 5), "step 5 is that of another")],
)
def test_steps_are_needed_and_differ(
    name: str, steps: tuple[int, ...], fault: str
) -> None:
    """The error names the contribution; who weighs nothing needs none."""
    inputs, _ = series(name, steps)
    place = 1 if 0 in steps else 2
    label = f"contribution {bytes([place]).hex() * 6}, tensor 'w'"
    with pytest.raises(ContractError, match=f"{label}.*{fault}") as caught:
        resolve(name, inputs)
    assert "by a rule with its content, author or tag" in caught.value.hint
    weights = tuple(0 if i == place else UNIT for i in range(3))
    assert len(resolve(name, replace(inputs, weights=weights))) == 720
