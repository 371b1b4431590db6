"""How many rounds nodes may take to agree, once nothing but their links fails any more.

Owns the bound, which is made of the waits that the code of nodes has, and of what chance
adds where links go on losing. Does not own the waiting (`settling`).

Where nothing is lost, the longest way is this. Two machines find out that their link is
silent (`KEEPALIVE_S`, and the answer's time); they are cut off from each other for what
broke a rule (`BANISHED_S`), and then are between two dials (`BACKOFF_LAST_S`); records
take as many rounds as heartbeats need to reach everybody; a blob stands still on the stream
of who does not send it (`PROGRESS_S`), and whoever has it meanwhile is left alone, since it
had not (`RETRY_LAST_S`). Who sent other bytes is left alone for longer (`LIED_S`).

Where links lose, a question with its answer, or a dial, takes as many tries as let one run
in a million fail by ill luck; a node beats, and so may ask again, once a round.
"""

import math
from typing import Final

from crdtmerge.sync.pulls import ASK_AGAIN_BEATS
from crdtmerge.sync.swarm import PROGRESS_S, RETRY_LAST_S
from nodes.choices import LIED_S
from nodes.gossip import (
    BACKOFF_LAST_S,
    BANISHED_S,
    KEEPALIVE_ANSWER_S,
    KEEPALIVE_S,
)
from simulations.faults import Faults
from simulations.world import TICK_S

LUCK: Final = 1e-6
"""Share of the runs that may fail by ill luck alone."""
GOSSIP_ROUNDS: Final = 10
"""Rounds in which heartbeats reach all of a hundred nodes several times over."""
FORGIVEN_ROUNDS: Final = int(LIED_S / TICK_S)
"""Rounds until a peer that brought other bytes of a blob is asked for it again: it may be
the only one that has it."""
QUESTIONS: Final = 3
"""Questions that follow on each other: two of a comparison, and one for the records."""


def patience(faults: Faults, nodes: int) -> int:
    """Return the rounds that `nodes` get to agree under what goes on failing."""
    silent_s = KEEPALIVE_S + KEEPALIVE_ANSWER_S
    waits_s = silent_s + BANISHED_S + BACKOFF_LAST_S + PROGRESS_S + RETRY_LAST_S
    waiting = waits_s / TICK_S + FORGIVEN_ROUNDS * bool(faults["bad_chunk"])
    unanswered = 1 - (1 - faults["loss"]) ** 2
    asking = _tries(unanswered) * ASK_AGAIN_BEATS * QUESTIONS
    # All others may dial, and be dialled: it is enough if one of them comes through.
    fruitless = faults["refuse"] ** (2 * max(1, nodes - 1))
    dialling = _tries(fruitless) * BACKOFF_LAST_S / TICK_S
    return math.ceil(waiting + GOSSIP_ROUNDS + asking + dialling)


def _tries(failing: float) -> int:
    """Return how many tries leave but little chance that all fail."""
    return math.ceil(math.log(LUCK) / math.log(failing)) - 1 if failing > 0 else 0
