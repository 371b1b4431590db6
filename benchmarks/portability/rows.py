"""The rows of the table: every platform, and the canary that shows that it is another.

Owns which switches are thrown and how. Does not own starting processes (`platforms`) nor
judging what they found (`verdict`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Final

from benchmarks.portability.job import Job

THREAD_COUNTS: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
SWITCHES: Final = (
    *THREAD_COUNTS,
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "GLIBC_TUNABLES",
    "NUMBA_CPU_NAME",
    "NUMBA_CPU_FEATURES",
    "NUMBA_CACHE_DIR",
    "PYTHONHASHSEED",
    "PYTHONPATH",
    "PYTHONHOME",
)
"""What a row starts without, whatever the caller's environment says."""

BLOCK_BITS: Final = (12, 14, 16, 18, 20, 22)
HERE: Final = "here"
ARM: Final = "arm64 (emulated)"
WITHOUT_WIDE: Final = "-AVX2,-FMA,-FMA4,-AVX512F,-AVX512VL,-AVX512DQ,-AVX512BW"


@dataclass(frozen=True, slots=True)
class Row:
    """One platform: where it runs, what is set there, and what must move.

    `library` is what the switch steers: where it is not loaded, the row shows nothing.
    """

    name: str
    canary: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    library: str = ""
    platform: str = HERE
    job: Job = field(default_factory=lambda: Job("reference"))

    def environment(self) -> dict[str, str]:
        """Return what is set: one thread and hash seed 0, but for what the row sets."""
        base = {**dict.fromkeys(THREAD_COUNTS, "1"), "PYTHONHASHSEED": "0"}
        return base | dict(self.env)


BASELINE: Final = Row("baseline")
LARGE_BASELINE: Final = replace(
    BASELINE, name="large tensors", job=Job("reference", large=True)
)


def rows(groups: Sequence[str], platforms: Mapping[str, str]) -> Iterator[Row]:
    """Yield every row but the baselines.

    `groups` are the features that NumPy dispatches on and finds here, from the narrowest;
    `platforms` gives the canary of each platform but this one.
    """
    two = dict.fromkeys(THREAD_COUNTS, "2")
    yield Row("threads 2", "blas", two, job=Job("reference", threads=2))
    job = Job("reference", threads=2, large=True)  # short vectors are not cut
    yield Row("threads 2, large tensors", "blas", two, job=job)
    for value in ("default", "avx2", "avx512"):
        yield _switch("ATEN_CPU_CAPABILITY", value, "aten", "torch")
    for value in ("COMPATIBLE", "AVX2"):
        yield _switch("MKL_CBWR", value, "mkl", "torch")
    for value in ("Nehalem", "Haswell", "SkylakeX"):
        yield _switch("OPENBLAS_CORETYPE", value, "blas")
    for value in accumulate(reversed(groups), "{1} {0}".format):
        yield _switch("NPY_DISABLE_CPU_FEATURES", value, "vector math")
    narrow = {"GLIBC_TUNABLES": f"glibc.cpu.hwcaps={WITHOUT_WIDE}"}
    yield Row("GLIBC_TUNABLES without AVX2 and FMA", "libm", narrow)
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    yield Row("NUMBA_CPU_NAME=generic", "numba sum", generic, "numba")
    for value in ("1", "2", "3"):
        yield _switch("PYTHONHASHSEED", value, "hash order")
    yield from _shapes()
    for name, canary in platforms.items():
        yield Row(name, canary, platform=name)


def _switch(name: str, value: str, canary: str, library: str = "") -> Row:
    return Row(f"{name}={value}", canary, {name: value}, library)


def _shapes() -> Iterator[Row]:
    for bits in BLOCK_BITS:
        job = Job("reference", block=1 << bits, large=True)
        yield Row(f"blocks of 2^{bits}", "block sum", job=job)
    yield Row("offset inputs", "layout sum", job=Job("reference", layout="offset"))
    yield Row("strided inputs", "layout sum", job=Job("reference", layout="strided"))
