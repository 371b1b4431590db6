"""Under the smallest quotas, in the worst of weathers: all is delivered in the end."""

import pytest

from nodes.quotas import LEAST, Quotas
from simulations.checking.settling import settle
from simulations.cluster import Cluster
from simulations.faults import ROUGH
from simulations.stories.swarm import PATIENCE_ROUNDS, play

SMALLEST = Quotas(
    peer_cost=LEAST["peer_cost"],
    peer_records=LEAST["peer_records"],
    peer_bytes=LEAST["peer_bytes"],
    peer_questions=LEAST["peer_questions"],
    author_rate=LEAST["author_rate"],
    burst_s=1.0,
)
"""Next to nothing may be saved up: honest nodes meet these all the time."""


@pytest.mark.parametrize("seed", range(6))
def test_a_swarm_that_meets_every_quota_settles(seed: int) -> None:
    """Honest nodes pause each other and hold each other's authors back, and still agree.

    Nobody is taken for a liar for it, and nothing is lost: `settle` checks both.
    """
    cluster = Cluster(seed, ROUGH, quotas=SMALLEST)
    play(cluster, 6, 12)
    settle(cluster, patience_rounds=PATIENCE_ROUNDS)
    nodes = [m.node for m in cluster.machines if m.node is not None]
    assert sum(node.accounts.pauses for node in nodes) > 0
    assert sum(node.holding.held.total() for node in nodes) > 0
