"""The model beside real node cores: the same figures of both, and how far they are apart.

Owns what is compared. Does not own the cores' world (`simulations.town`). What the model
leaves out shows here: streams that come and go, repairs, and messages that are lost while
a stream begins.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

from nodes.gossip import RUMOUR_FANOUT
from simulations.town import Spread, Town

from .calibration import Calibration
from .prediction import Prediction, predict, standard_error

IDLE_TICKS: Final = 30


@dataclass(frozen=True, slots=True)
class Simulated:
    """What real cores did, in the words of `Prediction`."""

    half: float
    most: float
    all: float
    all_error: float
    slowest: float
    streams: float
    messages: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Checked:
    """The model and the cores on the same question."""

    model: Prediction
    simulated: Simulated

    def errors(self) -> dict[str, float]:
        """Return by which part of the cores' figure the model's is above it."""
        names = [field.name for field in fields(Simulated) if field.name != "all_error"]
        pairs = {n: (getattr(self.model, n), getattr(self.simulated, n)) for n in names}
        return {name: model / cores - 1 for name, (model, cores) in pairs.items()}


def check(
    peers: int, loss: float, records: int, seed: int, costs: Calibration
) -> Checked:
    """Ask the model and the cores how so many records spread.

    Raises:
        NotConvergedError: the cores did not get a record everywhere.
        NeverEverywhereError: the model did not.
    """
    return Checked(
        predict(peers, loss, records, seed, costs),
        simulate(peers, loss, records, seed),
    )


def simulate(peers: int, loss: float, records: int, seed: int) -> Simulated:
    """Return what real cores did.

    Raises:
        NotConvergedError: a record did not get everywhere.
    """
    town = Town(peers, loss, RUMOUR_FANOUT, seed)
    messages, size = town.idle(IDLE_TICKS)
    spreads = [town.spread() for _ in range(records)]
    alls = [spread.all for spread in spreads]
    degrees = [len(m.node.sessions) for m in town.machines if m.node is not None]
    return Simulated(
        statistics.mean(spread.half for spread in spreads),
        statistics.mean(spread.most for spread in spreads),
        statistics.mean(alls),
        standard_error(alls),
        max(alls),
        statistics.mean(degrees),
        _beyond([s.messages for s in spreads], spreads, messages, peers),
        _beyond([s.bytes for s in spreads], spreads, size, peers),
    )


def _beyond(
    sent: Sequence[int], spreads: Sequence[Spread], idle: float, peers: int
) -> float:
    """Return what a record took of each node beyond what idling takes meanwhile."""
    periods = sum(spread.periods for spread in spreads)
    return (sum(sent) / peers - idle * periods) / len(spreads)
