"""The CUDA backend on torch's CPU device: choice of device, formats, blocks, refusals."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from crdtmerge.codec import DECIMAL_UNIT
from crdtmerge.errors import BackendError, ContractError
from crdtmerge.numerics import backends
from crdtmerge.numerics.cases import cases_of
from crdtmerge.numerics.cases.elements import ElementCase, element_cases
from crdtmerge.numerics.cases.making import numbers
from crdtmerge.numerics.cuda import (
    device,
    formats,
    gemm,
    philox,
    polynomials,
    reductions,
)
from crdtmerge.numerics.cuda.formats import Faults
from crdtmerge.numerics.reference import gemm as reference_gemm
from crdtmerge.numerics.reference import kernels as reference
from crdtmerge.numerics.reference import philox as reference_philox
from crdtmerge.numerics.reference import polynomials as reference_polynomials
from crdtmerge.numerics.reference.dtypes import downcast, upcast
from crdtmerge.numerics.reference.grid import tau_grid, theta_grid
from crdtmerge.numerics.vectors import Difference, Items, Keep, Output, Voter, Weighed

FORMATS = ("BF16", "F16", "F8_E4M3", "F8_E5M2")
TORCH_DTYPES = {
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
KEY = b"\x10\x32\x54\x76\x98\xba\xdc\xfe"


@pytest.fixture(autouse=True)
def on_cpu() -> Iterator[None]:
    """Torch's CPU device, and one thread of it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with device.on_device("cpu"):
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def kernels() -> Any:
    """The backend's module."""
    return backends.load("cuda")


@pytest.fixture
def no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that left its work to the reference would be compared with itself."""
    true_any = Faults.any

    def any_(faults: Faults) -> bool:
        assert not true_any(faults), "the reference was asked"
        return False

    monkeypatch.setattr(Faults, "any", any_)


def same(found: NDArray[Any], wanted: NDArray[Any]) -> bool:
    """Tell whether two arrays have the same bytes."""
    return found.dtype == wanted.dtype and found.tobytes() == wanted.tobytes()


# --- which device ------------------------------------------------------------------------


def test_without_a_gpu_the_backend_is_refused_and_says_what_it_takes() -> None:
    """A process that did not ask for torch's CPU device does not get it."""
    program = (
        "from crdtmerge.numerics import backends\n"
        "try: backends.choose('cuda')\n"
        "except backends.BackendError as e: print(e, '/', e.hint)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "finds no CUDA device" in found.stdout
    assert "a torch built for CUDA" in found.stdout


def test_without_torch_the_backend_is_refused_and_says_what_to_install() -> None:
    """The extra is named."""
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from crdtmerge.numerics import backends\n"
        "try: backends.load('cuda')\n"
        "except backends.BackendError as e: print(e, '/', e.hint)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "torch cannot be imported" in found.stdout
    assert "crdtmerge[cuda]" in found.stdout


def test_another_device_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards a GPU is looked for again."""
    monkeypatch.setattr(device, "_chosen", device._Chosen())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with device.on_device("cpu"):
        assert device.current() == torch.device("cpu")
    with pytest.raises(BackendError, match="no CUDA device"):
        device.current()


def test_what_was_found_on_another_device_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The self-test of one device says nothing about another."""
    state = backends._State(reasons={("cuda", "inspect"): "no", ("cpu", "inspect"): ""})
    monkeypatch.setattr(backends, "_state", state)
    with device.on_device("cpu"):
        assert state.reasons == {("cpu", "inspect"): ""}
        assert backends.why_not("cuda", "inspect") == ""
    assert state.reasons == {("cpu", "inspect"): ""}


# --- formats -----------------------------------------------------------------------------


def patterns(dtype: str) -> "torch.Tensor":
    """Return every finite item of a format, as bytes."""
    width = torch.tensor([], dtype=TORCH_DTYPES[dtype]).element_size()
    every = np.arange(1 << (8 * width)).astype(f"<u{width}").view(np.uint8)
    values = torch.from_numpy(every).view(TORCH_DTYPES[dtype]).to(torch.float64)
    keep = torch.isfinite(values)
    return torch.from_numpy(every).view(-1, width)[keep].reshape(-1)


@pytest.mark.parametrize("dtype", FORMATS)
def test_every_item_of_a_format_stands_for_its_value(dtype: str) -> None:
    """All patterns, against the library's own cast, which is exact upwards."""
    raw = patterns(dtype)
    wanted = raw.view(TORCH_DTYPES[dtype]).to(torch.float64).numpy()
    assert same(formats.upcast(raw, dtype).numpy(), wanted)


@pytest.mark.parametrize("dtype", FORMATS)
def test_rounding_is_once_to_the_nearest_ties_to_even(dtype: str) -> None:
    """Each item, each half between two, and the float64 next to either."""
    raw = patterns(dtype)
    values = formats.upcast(raw, dtype).numpy()
    width = raw.numel() // values.size
    bits = raw.numpy().view(f"<u{width}").astype(np.int64)
    up = np.argsort(values[bits < 1 << (8 * width - 1)], kind="stable")
    items, patterns_ = values[up], bits[up]
    halves = (items[:-1] + items[1:]) / 2  # exact: few bits
    even = np.where(patterns_[:-1] % 2 == 0, patterns_[:-1], patterns_[1:])
    below, above = np.nextafter(halves, 0), np.nextafter(halves, np.inf)
    given = np.concatenate([items, halves, below, above])
    wanted = np.concatenate([patterns_, even, patterns_[:-1], patterns_[1:]])
    for sign in (1, -1):
        faults = Faults()
        made = formats.downcast(torch.from_numpy(sign * given), dtype, faults)
        found = made.numpy().view(f"<u{width}").astype(np.int64)
        signed = (sign < 0) & (wanted > 0)  # every zero is +0
        assert (found == wanted + signed * (1 << (8 * width - 1))).all()
        assert not faults.any()


RANGES = {
    "F64": (-1074, 1022),
    "F32": (-151, 126),
    "BF16": (-135, 126),
    "F16": (-26, 14),
    "F8_E4M3": (-11, 7),
    "F8_E5M2": (-18, 14),
}
"""Exponents from below the smallest item to below the largest."""


@pytest.mark.parametrize("dtype", sorted(RANGES))
def test_rounding_has_the_bytes_of_the_reference(dtype: str) -> None:
    """Numbers of all exponents that the format has, subnormals among them."""
    generator = np.random.default_rng(7)
    low, high = RANGES[dtype]
    exponents = generator.integers(low, high, 50_000)
    values = np.ldexp(generator.uniform(-2, 2, 50_000), exponents)
    faults = Faults()
    found = formats.downcast(torch.from_numpy(values), dtype, faults)
    assert found.numpy().tobytes() == downcast(values, dtype)
    assert not faults.any()
    back = formats.upcast(found, dtype).numpy()
    assert same(back, upcast(found.numpy().tobytes(), dtype))


@pytest.mark.parametrize("dtype", ["F64", "F32", *FORMATS])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_result_that_is_not_finite_is_noted(dtype: str, value: float) -> None:
    """Among many that are; the reference then raises the error."""
    values = torch.zeros(100, dtype=torch.float64)
    values[57] = value
    faults = Faults()
    formats.downcast(values, dtype, faults)
    assert faults.any()


@pytest.mark.parametrize("dtype", ["F32", *FORMATS])
def test_the_largest_finite_item_is_the_limit(dtype: str) -> None:
    """What rounds to it is stored, what rounds beyond it is noted."""
    largest = 3.4028234663852886e38
    if dtype in FORMATS:
        largest = float(formats.upcast(patterns(dtype), dtype).max())
    for factor, beyond in ((1.0, False), (1 + 2.0**-40, False), (1.125, True)):
        faults = Faults()
        value = torch.tensor([largest * factor], dtype=torch.float64)
        formats.downcast(value, dtype, faults)
        assert faults.any() == beyond


def test_data_may_be_read_only_and_lie_at_any_address() -> None:
    """Bytes, views of any offset, and writable buffers give the same items."""
    plain = downcast(numbers(5, 1001), "F32")
    shifted = memoryview(b"xyz" + plain)[3:]
    for data in (plain, shifted, memoryview(bytearray(plain)), memoryview(plain)):
        found = formats.upcast(device.moved(data, "F32", range(1, 1000)), "F32")
        assert same(found.numpy(), upcast(plain, "F32")[1:1000])


# --- single operations -------------------------------------------------------------------


def test_square_roots_are_those_of_the_processor() -> None:
    """Torch's own are not: this would fail with them."""
    generator = np.random.default_rng(3)
    exponents = generator.integers(-1074, 1023, 20_000)
    values = np.ldexp(generator.uniform(1, 2, 20_000), exponents)
    found = device.square_root(torch.from_numpy(values)).numpy()
    assert same(found, np.sqrt(values))


def test_words_are_those_of_the_reference_wherever_they_begin() -> None:
    """Also beyond 2**32 blocks, where the counter's second word counts."""
    for start in (0, 1, 2, 3, 4, 2**34 - 7):
        found = philox.random_words(KEY, 5003, start)
        assert same(found, reference_philox.random_words(KEY, 5003, start))
        normals = philox.normals(KEY, 5003, start)
        assert same(normals, reference_philox.normals(KEY, 5003, start))


@pytest.mark.parametrize("keep", [0, 1, DECIMAL_UNIT // 3, DECIMAL_UNIT])
def test_masks_are_those_of_the_reference(keep: int) -> None:
    """Both ends of the chance included."""
    wanted = reference_philox.bernoulli(KEY, 2003, keep, 5)
    assert same(philox.bernoulli(KEY, 2003, keep, 5), wanted)


DOMAINS: dict[str, list[tuple[float, float]]] = {
    "sin": [(-4, 4), (-(2.0**20), 2.0**20)],
    "cos": [(-4, 4), (-(2.0**20), 2.0**20)],
    "acos": [(-1, 1), (-(2.0**-30), 2.0**-30)],
    "exp": [(-760, 709.7), (-1, 1)],
    "log": [(2.0**-1074, 2.0**-1000), (0.4, 4), (1, 2.0**1023)],
    "tanh": [(-25, 25), (-(2.0**-40), 2.0**-40)],
}


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_functions_have_the_bits_of_the_reference(name: str) -> None:
    """Over each domain, its ends included, in any shape."""
    own, theirs = getattr(polynomials, name), getattr(reference_polynomials, name)
    generator = np.random.default_rng(11)
    for least, most in DOMAINS[name]:
        x = np.append(generator.uniform(least, most, 4998), [least, most])
        assert same(own(x.reshape(50, 100)), theirs(x).reshape(50, 100))
    with pytest.raises(ContractError, match=name):
        own(np.array([np.nan]))


@pytest.mark.parametrize("exponent", [0, 300, -1060])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (40, 1000, 30), (65, 64, 2)])
def test_products_of_matrices_have_the_bits_of_the_reference(
    shape: tuple[int, int, int], exponent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole or in blocks, cut here or before; zeros, subnormals and large entries too."""
    rows, inner, columns = shape
    generator = np.random.default_rng(list(shape))
    left = generator.standard_normal((rows, inner))
    left = np.ldexp(left, generator.integers(-40, 1, (rows, inner)) + exponent)
    left[rows // 2] = 0
    right = generator.standard_normal((inner, columns))
    wanted = reference_gemm.matmul(left, right) + 0.0
    assert same(gemm.matmul(left, right), wanted)
    assert same(gemm.matmul(reference_gemm.sliced(left), right), wanted)
    monkeypatch.setattr(gemm, "BLOCK_ITEMS", 3 * inner)
    assert same(gemm.matmul(left, right), wanted)


def test_blocks_change_no_byte_of_a_kernel_on_arrays(
    kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few items at a time, and rows longer than a block."""
    monkeypatch.setattr(device, "BLOCK_ITEMS", 1001)
    monkeypatch.setattr(reductions, "PRODUCT_ITEMS", 1)
    for _, title, run in some_of(kernels):
        assert run(kernels) == run(reference), title


def some_of(kernels: Any) -> Iterator[ElementCase]:
    """Yield the cases of one size: more than a block of the tree."""
    for case in element_cases():
        name, title, _ = case
        if hasattr(kernels, name) and ("65537" in title or "4097 from 3" in title):
            yield case


# --- blocks ------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [1000, 4096])
@pytest.mark.parametrize("kernel", ["weighted_sum", "thinned_sum", "consensus"])
@pytest.mark.usefixtures("no_reference")
def test_blocks_change_no_byte_of_a_merge(
    kernel: str, items: int, kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that do and do not divide the tensors, or begin amid four words."""
    monkeypatch.setattr(device, "BLOCK_ITEMS", items + 1)
    for case in cases_of(kernel):
        assert case.run(kernels) == case.run(reference), case.title


@pytest.mark.parametrize(
    "kernel", ["inspect", "weighted_median", "kth_largest", "inner_products"]
)
@pytest.mark.usefixtures("no_reference")
def test_blocks_change_no_byte_of_a_measure(
    kernel: str, kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one block of the tree, and for few items elsewhere."""
    monkeypatch.setattr(device, "BLOCK_ITEMS", 3001)
    monkeypatch.setattr(reductions, "PRODUCT_ITEMS", 1)
    for case in cases_of(kernel):
        if "F32" in case.title or "drawn" in case.title:
            assert case.run(kernels) == case.run(reference), case.title


@pytest.mark.usefixtures("no_reference")
def test_a_sum_of_magnitudes_does_not_depend_on_room(
    kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block of the tree at a time, or many."""
    tau = Items(downcast(numbers(3, 200_001), "F32"), "F32")
    keep = Keep(0.01, KEY, 1 << 31)
    wanted = reference.magnitude_sum(tau, keep)
    assert kernels.magnitude_sum(tau, keep) == wanted
    monkeypatch.setattr(reductions, "PRODUCT_ITEMS", 1)
    assert kernels.magnitude_sum(tau, keep) == wanted


@pytest.mark.parametrize("count", [16, 17, 40])
def test_vectors_may_be_more_than_are_held_at_once(count: int, kernels: Any) -> None:
    """Pairs across groups are summed like those within."""
    vectors = [Items(downcast(numbers(i, 210), "F32"), "F32") for i in range(count)]
    found = kernels.inner_products(vectors, 70, range(1, 3), 0)
    assert same(found, reference.inner_products(vectors, 70, range(1, 3), 0))


@pytest.mark.parametrize("normalize", [True, False])
def test_a_coefficient_of_nothing_leaves_the_weight_in_the_mean(
    normalize: bool, kernels: Any
) -> None:
    """A voter that adds 0 is one of those that the mean is of."""
    base = downcast(numbers(1, 999), "F32")
    taus = [Items(downcast(numbers(2 + i, 999), "F32"), "F32") for i in range(3)]
    coefficients = (DECIMAL_UNIT, 0, -DECIMAL_UNIT)
    voters = [
        Voter(tau, Keep(), DECIMAL_UNIT * (i + 1), coefficient)
        for i, (tau, coefficient) in enumerate(zip(taus, coefficients, strict=True))
    ]
    given = Items(base, "F32"), voters, tau_grid(0, "F32"), Output("F32", range(999))
    wanted = reference.consensus(*given, scale=1.0, normalize=normalize)
    found = kernels.consensus(*given, scale=1.0, normalize=normalize)
    assert bytes(found) == wanted


@pytest.mark.parametrize("weights", [(1, 1), (1, 1, 1, 1), (2, 1, 1), (1, 3, 2, 2)])
def test_weights_that_split_in_half_have_two_medians(
    weights: tuple[int, ...], kernels: Any
) -> None:
    """Where a cumulated weight is half of all, the lower and the upper are not one."""
    models = [Items(downcast(numbers(i, 501), "F32"), "F32") for i in range(4)]
    given = models[: len(weights)], weights, Output("F32", range(501))
    wanted = reference.weighted_median(*given)
    assert bytes(kernels.weighted_median(*given)) == wanted


# --- refusals ----------------------------------------------------------------------------


def _apart() -> Difference:
    """A task vector of which the last item is beyond float32."""
    theta = np.array([1.0, 3e38], np.float32).tobytes()
    base = np.array([0.5, -3e38], np.float32).tobytes()
    return Difference(theta, base, "F32", "layer.weight")


def _voter() -> Voter:
    return Voter(_apart(), Keep(), DECIMAL_UNIT, DECIMAL_UNIT)


BASE = Items(bytes(8), "F32")
OUTPUT = Output("F32", range(2), "layer.weight")
REFUSED: dict[str, Callable[[Any], Any]] = {
    "weighted_sum": lambda m: m.weighted_sum(
        [Weighed(_apart(), 1)], 1, tau_grid(128, "F32"), OUTPUT
    ),
    "thinned_sum": lambda m: m.thinned_sum(
        BASE, [_voter()], 1, tau_grid(128, "F32"), OUTPUT
    ),
    "consensus": lambda m: m.consensus(
        BASE, [_voter()], tau_grid(128, "F32"), OUTPUT, scale=1.0, normalize=True
    ),
    "weighted_median": lambda m: m.weighted_median([_apart()], [1], OUTPUT),
    "kth_largest": lambda m: m.kth_largest(_apart(), [1]),
    "kept_of": lambda m: m.kept_of(_apart(), Keep(), range(2)),
    "settle": lambda m: m.settle(_apart(), Keep()),
    "inner_products": lambda m: m.inner_products([_apart()], 2, range(1), 0),
    "magnitude_sum": lambda m: m.magnitude_sum(_apart(), Keep()),
}


@pytest.mark.parametrize("kernel", sorted(REFUSED))
def test_a_difference_beyond_float32_is_refused_by_name(
    kernel: str, kernels: Any
) -> None:
    """The error is the reference's."""
    with pytest.raises(ContractError) as wanted:
        REFUSED[kernel](reference)
    with pytest.raises(ContractError) as found:
        REFUSED[kernel](kernels)
    assert str(found.value) == str(wanted.value)
    assert "layer.weight" in str(found.value)


def test_a_result_beyond_the_output_is_refused_by_name(kernels: Any) -> None:
    """60,000 twice is no F16."""
    items = Items(np.full(9, 60_000, np.float16).tobytes(), "F16")
    terms = [Weighed(items, 2 * DECIMAL_UNIT)]
    output = Output("F16", range(9), "layer.weight")
    grid = theta_grid(16, "F16")
    with pytest.raises(ContractError, match=r"layer\.weight.*largest finite F16"):
        kernels.weighted_sum(terms, DECIMAL_UNIT, grid, output)
