"""Clusters of real node cores converge under every scenario, from one seed each."""

import pytest

from simulations.checking.checkers import NotConvergedError, check_settled
from simulations.cluster import Cluster
from simulations.outcome import Outcome
from simulations.stories.scenarios import ALONE, ON_DISKS, SCENARIOS, run_scenario

SEEDS = range(20)
DEFAULT_SEEDS = 8
"""The first so many are run by default: each number of nodes with two seeds or more."""
NODES = (5, 5, 6, 8)
"""How many nodes a seed gets; most few, or the whole would take too long."""
GOSSIP_ROUNDS_MAX = 4
"""Rounds in which 32 nodes must have the same records; 0.5 to 1 were seen."""


def test_the_same_seed_gives_the_same_log() -> None:
    """Everything that happens follows from the seed: first of all, the log says so."""
    once, again = (run_scenario("flaky-links", 11, 6) for _ in range(2))
    assert once == again
    assert once.events > 100


def test_another_seed_gives_another_log() -> None:
    """The digest covers what happened: it could not be a constant."""
    logs = {run_scenario("ban-in-partition", seed, 5).log_digest for seed in range(3)}
    assert len(logs) == 3


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=() if seed < DEFAULT_SEEDS else pytest.mark.slow)
        for seed in SEEDS
    ],
)
@pytest.mark.parametrize(
    "name", [name for name in SCENARIOS if name not in {*ON_DISKS, *ALONE}]
)
def test_every_scenario_settles(name: str, seed: int) -> None:
    """5 to 8 nodes agree on records, visible set, merge id and bytes, and lose nothing."""
    outcome = run_scenario(name, seed, NODES[seed % len(NODES)])
    assert outcome.events > 0


def test_scenarios_use_all_three_ways_to_sync() -> None:
    """Rumours, feeds and trie repairs all carry records in what is run here."""
    kinds = run_scenario("late-joiner", 2, 6).kinds
    assert {"Rumour", "FeedReply", "CompareReply", "RecordsReply"} <= kinds.keys()


def test_32_nodes_agree_within_a_few_rounds() -> None:
    """A loose bound on gossip: news of all reaches all in a handful of rounds."""
    outcome: Outcome = run_scenario("everyone-contributes", 1, 32)
    assert outcome.records == 99
    assert outcome.settled.record_rounds <= GOSSIP_ROUNDS_MAX


def test_a_check_fails_where_a_record_is_lost() -> None:
    """The checker is no ornament: a node that lacks an acknowledged record is found."""
    cluster = Cluster(1)
    cluster.join()
    cluster.run(5.0)
    check_settled(cluster, cluster.machines)
    made_up = cluster.replica(cluster.owner).ban("content", bytes(32))
    cluster.ledger[made_up.record.id] = made_up
    with pytest.raises(NotConvergedError, match="lost 1 records"):
        check_settled(cluster, cluster.machines)


def test_a_check_fails_while_a_partition_lasts() -> None:
    """Nodes that cannot hear each other do not agree, and the checker says in what."""
    cluster = Cluster(1)
    other = cluster.join()
    cluster.run(5.0)
    cluster.network.partition([other.transport])
    cluster.contribute(other)
    cluster.run(5.0)
    with pytest.raises(NotConvergedError, match="record root"):
        check_settled(cluster, cluster.machines)
