"""Nodes in processes of their own, each with a home, driven through the command line.

Owns the members that tests have, and waiting until they agree. Each process has another
PYTHONHASHSEED. Some may run the version before (`tests.older`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simulations.real.members import Members
from simulations.real.process import Launch
from tests.homes import write_model

NAMES = ("ann", "ben", "cem", "dan")
DEADLINE_S = 60.0


class Cluster(Members):
    """Homes with a node each, driven through the command line."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.programs: dict[str, Path] = {}
        """Where who does not run today's program finds its own."""

    def launching(self, name: str) -> Launch:
        """Return how what `name` runs is started."""
        seed = {"PYTHONHASHSEED": str(NAMES.index(name) + 1)}
        return Launch(program=self.programs.get(name), environment=seed)

    def wait(self, names: Sequence[str], done: Callable[[Any], bool]) -> list[Any]:
        """Wait until `names` hold the same records, whole, and `done` says so of them."""
        end = time.monotonic() + DEADLINE_S
        while True:
            seen = [self.status(name) for name in names]
            roots = {space["record_root"] for space in seen}
            whole = all(space["missing_blobs"] == 0 for space in seen)
            if len(roots) == 1 and whole and all(map(done, seen)):
                return seen
            assert time.monotonic() < end, [seen, *map(self.log, names)]
            time.sleep(0.1)

    def contribute(self, name: str, seed: int, **changed: object) -> str:
        """Contribute a small model of `name`; return its content id."""
        model = self.folder / f"{name}-{seed}"
        write_model(model, seed, near=self.folder / "base", **changed)
        return str(self.run(name, "contribute", str(model))["content"])


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Lend a cluster; what still runs of it is killed at the end."""
    cluster = Cluster(folder)
    try:
        yield cluster
    finally:
        cluster.end()
