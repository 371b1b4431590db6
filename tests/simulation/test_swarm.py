"""Everything fails at once, and all end with the same roots and the same merged bytes."""

import json
import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.bodies import RecipeChange
from crdtmerge.errors import BadInputError
from nodes.store.memory import MemoryBlobs
from simulations.checking.checkers import NotConvergedError, check_merged, check_settled
from simulations.checking.settling import settle
from simulations.cluster import Cluster
from simulations.faults import CALM, ROUGH, Dice, Faults
from simulations.faults.mix import CHANCE_MAX
from simulations.limits import NODES_MAX, SEED_MAX
from simulations.stories import swarm as story
from simulations.stories.swarm import PATIENCE_ROUNDS, play, run_swarm
from tests.properties.oracle import Oracle, facts_of

ROOT = Path(__file__).parents[2]
ROUNDS = 12


def _swarm(seed: int, nodes: int, faults: Faults, rounds: int = ROUNDS) -> Cluster:
    cluster = Cluster(seed, faults)
    play(cluster, nodes, rounds)
    return cluster


# --- one seed decides everything -------------------------------------------------------


def test_the_same_seed_gives_the_same_log() -> None:
    """All faults are drawn from the seed, so the same arguments are the same run."""
    once, again = (run_swarm(3, 6, ROUGH) for _ in range(2))
    assert once == again
    assert once.events > 100


def test_another_seed_or_another_fault_gives_another_log() -> None:
    """The digest covers what happened, and faults do happen."""
    runs = [run_swarm(seed, 4, ROUGH, ROUNDS) for seed in range(3)]
    runs.append(run_swarm(0, 4, ROUGH.but(loss=0.2), ROUNDS))
    assert len({run.log_digest for run in runs}) == 4


def test_no_hash_seed_changes_a_run() -> None:
    """No set's order leaks into what nodes do, in three processes with their own."""
    command = [sys.executable, "-m", "nodes.cli", "simulate", "swarm", "--json"]
    said = {
        subprocess.run(
            [*command, "--seed", "5", "--nodes", "6", "--rounds", str(ROUNDS)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "4242")
    }
    assert len(said) == 1
    ours = run_swarm(5, 6, rounds=ROUNDS)
    assert json.loads(said.pop())["log_digest"] == ours.log_digest


# --- everything happens ----------------------------------------------------------------


def test_a_swarm_does_and_suffers_everything() -> None:
    """No kind of record and no kind of fault is missing, or nothing would be tested."""
    made: Counter[str] = Counter()
    forks = 0
    for seed in range(8):
        cluster = _swarm(seed, 8, ROUGH, rounds=20)
        made.update(signed.record.kind for signed in cluster.ledger.values())
        settle(cluster, patience_rounds=PATIENCE_ROUNDS)
        bodies = [signed.record.body for signed in cluster.ledger.values()]
        recipes = [body for body in bodies if isinstance(body, RecipeChange)]
        replaced = Counter(old for body in recipes for old in body.replaces)
        forks += sum(count > 1 for count in replaced.values())
        traffic = cluster.network.traffic
        made.update(traffic.kinds)
        made.update({n: v for n, v in asdict(traffic).items() if n != "kinds"})
        made.update(cluster.dice.struck)
    expected = "genesis add remove ban lift recipe grant node crash loss duplicate"
    expected += " reorder cut_off refuse Rumour FeedReply CompareReply RecordsReply"
    assert not [what for what in expected.split() if not made[what]]
    assert made["loss"] > 0.25 * made["messages"]
    assert forks, "no two recipes were ever concurrent"


@pytest.mark.parametrize("seed", range(8))
def test_a_swarm_of_eight_settles(seed: int) -> None:
    """Fixed seeds, so that a failure in one place is a failure everywhere."""
    assert run_swarm(seed, 8, ROUGH).model_digest


@pytest.mark.slow
def test_a_swarm_of_32_settles() -> None:
    """More nodes than any of them hears in a round."""
    outcome = run_swarm(1, 32, ROUGH)
    assert outcome.nodes == 32
    assert outcome.injected["loss"] > 1_000


chances = st.floats(0, CHANCE_MAX / 2)
storms = st.builds(
    Faults.of, st.floats(0, 1), **dict.fromkeys(dict(ROUGH.chances), chances)
) | st.just(CALM)


@given(st.integers(0, SEED_MAX), st.integers(2, 7), storms, st.integers(1, ROUNDS))
def test_any_swarm_ends_as_the_oracle_says(
    seed: int, nodes: int, faults: Faults, rounds: int
) -> None:
    """All nodes agree, lose nothing, merge to equal bytes, and see the right set.

    The oracle is a second reading of the rules, which shares no code with the first.
    """
    cluster = _swarm(seed, nodes, faults, rounds)
    settle(cluster, patience_rounds=PATIENCE_ROUNDS)
    stored = cluster.machines[-1].records.load(cluster.space)
    oracle = Oracle(facts_of([signed.record.data for signed in stored]))
    for machine in cluster.machines:
        view = machine.spaces.view(cluster.space)
        seen = {v.content: (v.weight, v.evidence) for v in view.visible}
        assert seen == oracle.visible()
        assert view.visible_root == oracle.visible_root()
        assert list(view.recipe_heads) == oracle.heads()


# --- the checks can fail ---------------------------------------------------------------


def test_a_check_fails_where_one_machine_merges_other_bytes() -> None:
    """Equal roots are not equal bytes: each merges what lies on its own disk."""
    cluster = _swarm(1, 3, CALM)
    settle(cluster)
    machine = cluster.machines[1]
    visible = machine.spaces.view(cluster.space).visible[-1]
    entry = machine.spaces.manifest(visible).tensors[-1]
    assert isinstance(machine.blobs, MemoryBlobs)
    held = machine.blobs._blobs
    data = held[entry.blob]
    held[entry.blob] = data[4:] + data[:4]
    check_settled(cluster, cluster.machines)
    with pytest.raises(NotConvergedError, match=r"node1 merges to other bytes"):
        check_merged(cluster, cluster.machines)


def test_a_check_fails_where_an_honest_node_was_accused() -> None:
    """All nodes are honest here: whoever is taken for a liar shows a bug."""
    cluster = _swarm(1, 3, CALM)
    settle(cluster)
    cluster.accused.append("node1 closed on node2: a lie")
    with pytest.raises(NotConvergedError, match="taken for a liar"):
        check_settled(cluster, cluster.machines)


def test_a_run_that_fails_says_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole command, faults included: seed and arguments are the repro."""
    monkeypatch.setattr(story, "PATIENCE_ROUNDS", 0)
    with pytest.raises(NotConvergedError) as caught:
        run_swarm(1, 5, ROUGH.but(loss=0.25), ROUNDS)
    command = (
        "crdtmerge simulate swarm --nodes 5 --seed 1 --rounds 12 --fault loss=0.25"
    )
    assert command in caught.value.hint
    assert ROUGH.options().partition(" --fault duplicate")[2] in caught.value.hint
    assert any(command in said for said in caught.value.__notes__)


@pytest.mark.parametrize(
    ("seed", "nodes", "fault", "rounds"),
    [
        (-1, 4, (), 5),
        (SEED_MAX + 1, 4, (), 5),
        (0, 1, (), 5),
        (0, NODES_MAX + 1, (), 5),
        (0, 4, (), 0),
        (0, 4, ("loss", -0.1), 5),
        (0, 4, ("crash", 0.51), 5),
        (0, 4, ("cut", float("nan")), 5),
        (0, 4, ("delay", float("inf")), 5),
    ],
)
def test_what_is_out_of_range_is_refused(
    seed: int, nodes: int, fault: tuple[str, float] | tuple[()], rounds: int
) -> None:
    """Before anything runs, with the range."""
    with pytest.raises(BadInputError, match=r"not [0-9]+ to [0-9]+"):
        run_swarm(seed, nodes, Faults.of(**dict([fault] if fault else [])), rounds)


def test_a_fault_that_there_is_not_is_refused() -> None:
    """With those that there are; and so is what is no number."""
    with pytest.raises(BadInputError, match="no fault is called 'losss'") as caught:
        Faults.of(losss=0.1)
    assert "half_open" in caught.value.hint
    with pytest.raises(BadInputError, match="'loss=much' is no fault"):
        Faults.told(["loss=much"])


def test_one_strike_can_be_left_out_and_no_other_is_drawn_otherwise() -> None:
    """Each kind has its own generator, and draws even what is left out."""
    whole, part = (
        Dice(ROUGH, random.Random, only)
        for only in (None, {"crash": frozenset({2}), "loss": frozenset({1, 3})})
    )
    names = ("crash", "loss", "cut") * 200
    drawn = [[dice.strikes(name) for name in names] for dice in (whole, part)]
    assert whole.hits == part.hits
    assert part.struck == {"crash": 1, "loss": 2}
    kept = [number for number, (a, b) in enumerate(zip(*drawn, strict=True)) if b]
    assert all(drawn[0][number] for number in kept)
