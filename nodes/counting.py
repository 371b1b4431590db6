"""What a metric is, and how it is read from the objects that count.

Owns the forms alone: which metrics there are is `metrics`' and `connection_metrics`'.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from crdtmerge.bodies import SpaceId

from .commands import Commands
from .fetching import Fetching
from .forks import Forks
from .home import Home
from .links import Links
from .node import Node
from .server import JoinServer, ReplicaServer
from .spaces import Spaces
from .turns import Turns
from .upkeep.keeping import Keeper

PREFIX: Final = "crdtmerge_"

Value = int | float
Samples = Mapping[tuple[str, ...], Value]
"""The values of a metric, by the values of its labels."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The running objects whose counters are read."""

    home: Home
    spaces: Spaces
    node: Node
    links: Links
    fetching: Fetching
    commands: Commands
    keeper: Keeper
    forks: Forks
    turns: Turns
    sync_server: ReplicaServer
    join_server: JoinServer


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: what it is called, what it means, and where its value comes from."""

    kind: Literal["counter", "gauge"]
    name: str
    help: str
    read: Callable[[Sources], Samples]
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as monitoring systems see it."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


def one(read: Callable[[Sources], Value]) -> Callable[[Sources], Samples]:
    """Return the reader of a metric without labels."""
    return lambda sources: {(): read(sources)}


def each_space(
    read: Callable[[Sources, SpaceId], Value],
) -> Callable[[Sources], Samples]:
    """Return the reader of a metric that each space has."""
    return lambda s: {(key.hex(),): read(s, key) for key in s.spaces.all()}


def by_count(
    read: Callable[[Sources], Counter[str]],
) -> Callable[[Sources], Samples]:
    """Return the reader of a counter by kind: of errors by the name of their class."""
    return lambda s: {(kind,): n for kind, n in sorted(read(s).copy().items())}
