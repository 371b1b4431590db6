"""What one process is to compute: the words between `command` and `worker`.

Owns the form of a job and of a report. Imports nothing that computes, since a job is made
before the switches are set that the computing libraries read as they are loaded.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

ARRAY: Final = "array: "
"""Begins the titles of what is given arrays, and no stored bytes."""

TORCH: Final = "torch"
"""Names the code of the CUDA backend where it runs on torch's CPU device."""

BACKENDS: Final = ("reference", "cpu", TORCH, "cuda")


@dataclass(frozen=True, slots=True)
class Job:
    """One process: which of `BACKENDS` is forced, what it computes, how inputs lie.

    `threads` is that of the executor; `block` the items of a block (0: the code's own);
    `layout` one of `layouts.LAYOUTS`; with `large`, tensors are larger than any block;
    `only` keeps the kernels and strategies whose title has this word; `canaries` are
    taken after all else.
    """

    backend: str
    threads: int = 1
    block: int = 0
    layout: str = "plain"
    large: bool = False
    only: str = ""
    canaries: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """The package of `crdtmerge.numerics` that has the backend's code."""
        return "cuda" if self.backend == TORCH else self.backend

    def encode(self) -> str:
        """Return it as one word of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> "Job":
        """Return the job that `encode` gave."""
        given = json.loads(text)
        return cls(**given | {"canaries": tuple(given["canaries"])})


@dataclass(frozen=True, slots=True)
class Report:
    """What a process found: digests by title, canaries, versions, libraries loaded.

    A digest that begins with "error: " is what stopped a case. `missing` says why the
    backend is not to be had there, and is empty otherwise.
    """

    kernels: dict[str, str]
    strategies: dict[str, str]
    canaries: dict[str, str]
    versions: dict[str, str]
    loaded: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    missing: str = ""

    def encode(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> "Report":
        """Return the report that `encode` gave."""
        given: dict[str, Any] = json.loads(text)
        for name in ("loaded", "warnings"):
            given[name] = tuple(given[name])
        return cls(**given)
