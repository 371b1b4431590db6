"""Members that lie: each kind does what it says, and no honest machine falls for it."""

import pytest

from crdtmerge.record import decode_record
from nodes.gossip import RUMOUR_FANOUT
from simulations.cluster import Cluster
from simulations.faults import FAULTS, Faults
from simulations.liars import LIES
from simulations.liars.forging import FORGERIES, Slipped, bring
from simulations.liars.liar import Liar
from simulations.settling import gather, settle
from simulations.swarm import play
from simulations.weather.members import appoint, liars, turn

KINDS = [fault.name for fault in FAULTS.values() if fault.area == "member"]


def _besieged(rumours: int = RUMOUR_FANOUT) -> tuple[Cluster, Liar]:
    """Return a cluster of four that has met, and of which the last machine lies."""
    nodes, cluster = 4, Cluster(0, rumours=rumours)
    gather(cluster, nodes)
    for machine in cluster.machines:
        cluster.contribute(machine)
    cluster.run(3)
    return cluster, turn(cluster, cluster.machines[-1])


def test_every_kind_of_the_catalogue_has_its_lie() -> None:
    """And no lie has a name of its own."""
    assert list(LIES) == KINDS


@pytest.mark.parametrize("nodes", range(1, 10))
def test_liars_are_fewer_than_a_third_and_never_the_owner(nodes: int) -> None:
    """Where too few are left, nobody lies."""
    for seed in range(2):
        cluster = Cluster(seed)
        while len(cluster.machines) < nodes:
            cluster.join()
        appoint(cluster)
        found = [liar.machine for liar in liars(cluster)]
        assert 3 * len(found) < nodes
        assert len(found) in ((0,) if nodes < 4 else (1, 2))
        assert cluster.owner not in found
        assert cluster.suspects == {machine.author.public for machine in found}


# --- forged records ----------------------------------------------------------------------

REASONS = {
    "broken": "BadSignatureError",
    "another's": "BadSignatureError",
    "stranger": "NotAdmissibleError",
    "above rank": "NotAdmissibleError",
    "other bytes": "MalformedRecordError",
    "elsewhere": "WrongSpaceError",
}


@pytest.mark.parametrize("name", REASONS)
def test_a_forged_record_is_refused_for_what_it_is(name: str) -> None:
    """Its bringer is cut off, for that reason, and no set is another for it."""
    cluster, liar = _besieged()
    before = {m.spaces.opset(cluster.space).root for m in cluster.honest}
    forged = FORGERIES[name](liar)
    assert forged is not None
    bring(liar, cluster.owner.transport, forged, answers=False)
    cluster.run(2)
    assert cluster.caught == {REASONS[name]: 1}
    assert {m.spaces.opset(cluster.space).root for m in cluster.honest} == before
    settle(cluster)


@pytest.mark.parametrize("name", REASONS)
def test_a_forged_record_amid_an_answer_is_refused_with_all_of_it(name: str) -> None:
    """Whoever reads the feed of a liar takes none of a page that holds a forged record."""
    cluster, liar = _besieged(rumours=0)
    forged = FORGERIES[name](liar)
    assert forged is not None
    for machine in cluster.honest:
        bring(liar, machine.transport, forged, answers=True)
    cluster.commit(liar.machine, liar.replica.announce(*_place(liar)))
    cluster.run(9)
    assert cluster.caught == {REASONS[name]: 3}
    assert not any(isinstance(lie, Slipped) and lie.forged for lie in liar.lies)
    known = {m.spaces.said(liar.machine.author.public) for m in cluster.honest}
    assert known == {2}
    settle(cluster)


def _place(liar: Liar) -> tuple[bytes, tuple[str, ...]]:
    return liar.machine.transport, (liar.machine.address,)


def test_what_a_revoked_author_dates_back_is_taken_and_never_counts() -> None:
    """All have the record, so that all agree, and nobody sees what it offers."""
    cluster, liar = _besieged()
    for _ in range(3):
        forged = FORGERIES["backdated"](liar)
        assert forged is not None
        bring(liar, cluster.owner.transport, forged, answers=False)
        cluster.run(2)
    assert forged is not None
    settle(cluster)
    ghost = liar.ghost
    assert ghost is not None
    assert len(ghost.void) == 3
    for machine in cluster.honest:
        opset = machine.spaces.opset(cluster.space)
        assert decode_record(forged.data).id in opset
        assert len(opset.signed.of_author(ghost.key.public)) == 4
        assert not ghost.void & {v.content for v in opset.view.visible}
    assert not cluster.caught


# --- all at once -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_swarm_among_liars_settles(seed: int) -> None:
    """All kinds in one run, in spaces that cut forked authors off, and in others."""
    faults = Faults.of(0.2, **dict.fromkeys(KINDS, 0.3))
    cluster = Cluster(seed, faults, quarantine=bool(seed % 2))
    play(cluster, 8, 20)
    settle(cluster)
    assert set(KINDS) <= set(cluster.dice.struck)
    assert len(cluster.honest) < 8
