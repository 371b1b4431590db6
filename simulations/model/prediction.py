"""What the model says of so many peers: rounds, messages, bytes and the processor's time.

Owns how counts of messages and what each costs come together. Does not own either
(`spread`, `calibration`). What idling takes is as it was measured: it does not depend on
how many peers there are.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .calibration import NEWS, Calibration
from .spread import (
    BEAT,
    ECHO,
    HEARD,
    QUESTION,
    RECORDS,
    REPLY,
    RUMOUR,
    Told,
    make_gossip,
)

CAUSED: Final = (ECHO, QUESTION, REPLY, RUMOUR)
"""Messages that only news cause: heartbeats and hellos go on as ever."""
LIKE: Final = {ECHO: BEAT}
"""Messages that cost as much as others."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Means over some records, each told once all have the last; rounds are periods.

    Messages, bytes and seconds are a node's for one record, beyond what idling takes.
    """

    peers: int
    loss: float
    records: int
    half: float
    most: float
    all: float
    all_error: float
    """Standard error of the mean."""
    slowest: float
    """Of these records, until all had the slowest."""
    streams: float
    messages: float
    bytes: float
    seconds: float
    doubted: int
    """Repairs that would have begun, and that the model leaves out."""


def predict(
    peers: int, loss: float, records: int, seed: int, costs: Calibration
) -> Prediction:
    """Return what the model says; the same arguments give the same.

    Raises:
        NeverEverywhereError: some record does not get everywhere.
    """
    gossip = make_gossip(peers, loss, seed)
    told = [gossip.tell() for _ in range(records)]
    share = _shares(told, peers)
    alls = [one.all for one in told]
    return Prediction(
        peers,
        loss,
        records,
        statistics.mean(one.half for one in told),
        statistics.mean(one.most for one in told),
        statistics.mean(alls),
        standard_error(alls),
        max(alls),
        float(gossip.graph.degrees().mean()),
        sum(share[kind] for kind in CAUSED),
        _bytes(share, costs),
        _seconds(share, loss, costs),
        gossip.doubted,
    )


def standard_error(values: Sequence[float]) -> float:
    """Return that of the mean of `values`; of one alone nothing is known."""
    if len(values) < 2:
        return math.nan
    return statistics.stdev(values) / math.sqrt(len(values))


def _shares(told: Sequence[Told], peers: int) -> dict[str, float]:
    """Return what a peer sent because of a record, by kind, and what that carried."""
    names = (*CAUSED, RECORDS, HEARD)
    every = peers * len(told)
    return {name: sum(one.sent[name] for one in told) / every for name in names}


def _bytes(share: dict[str, float], costs: Calibration) -> float:
    """Return the bytes that a node sends for a record."""
    messages = sum(costs.bytes[LIKE.get(kind, kind)] * share[kind] for kind in CAUSED)
    return messages + costs.record_bytes * share[RECORDS]


def _seconds(share: dict[str, float], loss: float, costs: Calibration) -> float:
    """Return the processor's seconds that a node takes for a record."""
    arrives = {kind: share[kind] * (1 - loss) for kind in CAUSED}
    heard = share[HEARD]
    answered = max(0.0, 1 - heard)
    handling = (
        heard * costs.seconds[RUMOUR + NEWS]
        + (arrives[RUMOUR] - heard) * costs.seconds[RUMOUR]
        + answered * costs.seconds.get(REPLY + NEWS, costs.seconds[RUMOUR + NEWS])
        + (arrives[REPLY] - answered) * costs.seconds[REPLY]
        + arrives[QUESTION] * costs.seconds[QUESTION]
        + arrives[ECHO] * costs.seconds[BEAT]
    )
    framing = sum((share[k] + arrives[k]) / 2 for k in CAUSED) * costs.frame_seconds
    return handling + framing
