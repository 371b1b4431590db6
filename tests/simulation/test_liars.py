"""Members that lie: each kind does what it says, and no honest machine falls for it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from crdtmerge.bodies import Add, RecordId, SpaceId
from crdtmerge.errors import BadSignatureError, NotFoundError
from crdtmerge.identity import AuthorId
from crdtmerge.record import SignedRecord, decode_record, sign_record
from crdtmerge.sync.messages import FeedReply, Message, Rumour
from crdtmerge.sync.pulls import Learned, Pull, Pulls
from crdtmerge.sync.session import Session
from nodes import sets
from nodes.gossip import RUMOUR_FANOUT
from nodes.holding import Holding
from nodes.neighbours import Neighbours, Shared
from nodes.offers import Sizes
from nodes.sets import Sets
from simulations.checking.bounds import TooMuchError
from simulations.checking.checkers import NotConvergedError
from simulations.checking.settling import gather, settle
from simulations.checking.watching import keep_watch
from simulations.cluster import Cluster
from simulations.faults import FAULTS, Faults
from simulations.liars import LIES
from simulations.liars.claims import Claims
from simulations.liars.eclipsing import Eclipse
from simulations.liars.flooding import TIGHT, Flooder
from simulations.liars.forging import FORGERIES, Slipped, bring
from simulations.liars.liar import Liar, next_record
from simulations.liars.stalling import Stall
from simulations.stories.scenarios import run_scenario
from simulations.stories.swarm import FORGETTING, found, play
from simulations.weather.members import appoint, liars, pass_over, turn

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


@pytest.mark.parametrize("name", FORGETTING)
def test_no_space_cuts_off_who_was_made_to_forget(name: str) -> None:
    """An owner that lost its last record signs another of its number, and is honest."""
    forking, both = Faults.of(equivocate=0.1), Faults.of(equivocate=0.1, **{name: 0.1})
    assert {found(seed, forking).quarantine for seed in range(4)} == {False, True}
    assert not any(found(seed, both).quarantine for seed in range(4))


# --- and who falls for a lie is found out ------------------------------------------------


def _tell(name: str, seeds: int = 6) -> None:
    """Tell the story of a kind under some seeds."""
    for seed in range(seeds):
        run_scenario(f"fault-{name}", seed, 5)


def test_who_believes_a_forged_signature_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sets are equal everywhere, and hold what no author signed: no proof is one then."""
    monkeypatch.setattr(sets, "verified", SignedRecord)
    with pytest.raises((NotConvergedError, BadSignatureError)):
        _tell("forge")


def test_who_keeps_the_branch_that_came_first_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One number, one record: a rule that makes sets depend on who spoke first."""
    take = Sets.take

    def first_only(
        self: Sets, space: SpaceId, batch: Sequence[SignedRecord]
    ) -> tuple[RecordId, ...]:
        known = self.opset(space).signed
        used = {(s.record.author, s.record.author_seq) for s in known.values()}
        kept = [s for s in batch if (s.record.author, s.record.author_seq) not in used]
        return take(self, space, kept)

    monkeypatch.setattr(Sets, "take", first_only)
    with pytest.raises(NotConvergedError):
        _tell("equivocate")


def test_who_hears_of_spaces_that_it_does_not_share_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is replayed into a space that is not here must reach nothing."""
    handle = Session.handle

    def of_any_space(self: Session, message: Message) -> list[Message | Learned]:
        if isinstance(message, Rumour | FeedReply) and self.greeted:
            self._dispatch(SpaceId(message.space), message)
            return self.pulls.flush()
        return handle(self, message)

    monkeypatch.setattr(Session, "handle", of_any_space)
    with pytest.raises(NotFoundError, match="no space"):
        _tell("replay")


def _lie_of_size() -> None:
    """Let a member offer what others offer, as larger than all that one may have."""
    cluster = Cluster(3, quotas=TIGHT)
    gather(cluster, 4)
    liar = turn(cluster, cluster.machines[-1])
    cluster.network.partition([cluster.owner.transport])
    cluster.run(2)
    for machine in cluster.honest[1:]:
        cluster.contribute(machine)
    cluster.run(6)
    for signed in list(cluster.ledger.values()):
        if isinstance(body := signed.record.body, Add):
            huge = replace(body, content_bytes=2 * TIGHT.author_bytes)
            record = next_record(liar, liar.machine.author.public, huge)
            cluster.commit(liar.machine, sign_record(record, liar.machine.author))
    cluster.network.heal()
    settle(cluster)


def test_anothers_size_is_no_word_of_the_author() -> None:
    """A liar uses up its own share, and nobody else's."""
    _lie_of_size()


def test_who_believes_anothers_size_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A member could have everybody leave the contributions of others where they are."""
    declared = Sizes.declared

    def by_anybody(self: Sizes, *given: Any) -> Mapping[AuthorId, int]:
        said = declared(self, *given)
        return dict.fromkeys(said, max(said.values(), default=0))

    monkeypatch.setattr(Sizes, "declared", by_anybody)
    with pytest.raises(NotConvergedError, match="lacks"):
        _lie_of_size()


def test_the_owner_bans_what_its_own_author_calls_huge() -> None:
    """Who has it keeps it, and who comes later never asks for it: else none would agree."""
    cluster = Cluster(0, quotas=TIGHT)
    gather(cluster, 4)
    liar = turn(cluster, cluster.machines[-1])
    kept = cluster.contribute(liar.machine, "kept")
    called_huge = cluster.contribute(liar.machine, "called huge")
    cluster.run(6)
    bodies = [signed.record.body for signed in cluster.ledger.values()]
    (add,) = [b for b in bodies if isinstance(b, Add) and b.content == called_huge]
    huge = replace(add, content_bytes=2 * TIGHT.author_bytes)
    record = next_record(liar, liar.machine.author.public, huge)
    cluster.commit(liar.machine, sign_record(record, liar.machine.author))
    pass_over(cluster)
    gather(cluster, 5)
    settle(cluster)
    view = cluster.owner.spaces.view(cluster.space)
    contents = {visible.content for visible in view.visible}
    assert kept in contents  # under this seed its author stays
    assert called_huge not in contents


def _stall_for_long() -> Cluster:
    """Let a member ask nothing, answer nothing, and say that it is there."""
    cluster, liar = _besieged(rumours=0)
    keep_watch(cluster)
    liar.lies.append(Claims(liar.now + 400, random.Random(0), "roots"))
    liar.lies.append(Stall(liar.now + 400, 60.0, beats=True))
    cluster.run(300)
    return cluster


def test_who_never_answers_is_given_up() -> None:
    """It is no lie: the stream ends, and another one begins after a while."""
    cluster = _stall_for_long()
    assert not cluster.caught
    settle(cluster)


def test_who_waits_for_ever_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question that waits longer than it says that it will."""

    def wait(_self: Pulls, pull: Pull, *_given: object) -> None:
        pull.beats += 1

    monkeypatch.setattr(Pulls, "wait", wait)
    with pytest.raises(TooMuchError, match="beats without an answer, not 32"):
        _stall_for_long()


def _flood() -> None:
    """Let a member say as much as it can, where nodes have little to spare."""
    cluster = Cluster(0, quotas=TIGHT)
    keep_watch(cluster)
    gather(cluster, 4)
    liar = turn(cluster, cluster.machines[-1])
    for _ in range(6):
        Flooder(cluster, liar.machine).say(40)
        cluster.run(1)
    assert all(m.node.holding.held for m in cluster.honest if m.node is not None)


def test_a_flood_waits_with_whoever_passes_it_on() -> None:
    """Each honest node takes of its author what a quota lets in, and no more."""
    _flood()


def test_who_keeps_all_that_a_flood_brings_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bound is looked at while it lasts, at every honest machine."""
    monkeypatch.setattr(Holding, "leave", lambda *_: {})
    with pytest.raises(TooMuchError, match="records of a liar"):
        _flood()


def _surround() -> None:
    """Let a crowd surround a machine, and never tell it of anything new."""
    cluster = Cluster(0)
    gather(cluster, 7)
    crowd = [turn(cluster, machine) for machine in cluster.machines[-2:]]
    victim, keys = cluster.machines[1], tuple(c.machine.transport for c in crowd)
    for machine in cluster.honest:
        cluster.network.cut(victim.transport, machine.transport)
    for liar in crowd:
        liar.lies.append(Eclipse(float("inf"), victim.transport, keys))
    cluster.run(3)
    for machine in cluster.honest:
        cluster.contribute(machine)
    settle(cluster, patience_rounds=60)


def test_a_surrounded_machine_learns_of_the_rest() -> None:
    """The crowd goes on to the end, and keeps nobody from it."""
    _surround()


def test_who_is_content_with_whoever_dials_it_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A node that has a stream, and so dials nobody, is an eclipse's victim."""
    dial = Neighbours.dial

    def if_alone(
        self: Neighbours, shared: Shared, *given: Any
    ) -> list[tuple[bytes, tuple[str, ...]]]:
        return [] if shared else dial(self, shared, *given)

    monkeypatch.setattr(Neighbours, "dial", if_alone)
    with pytest.raises(NotConvergedError, match="different record roots"):
        _surround()


def _repent() -> None:
    """Let the only way to a machine lie about where it stands, and then no more."""
    cluster, bridge = _besieged(rumours=0)
    far, *others = cluster.honest
    ends = [machine.transport for machine in cluster.machines]
    way = frozenset([bridge.machine.transport])
    cluster.network.ways = {end: frozenset(ends) - {far.transport} for end in ends}
    cluster.network.ways[far.transport] = way
    cluster.network.ways[bridge.machine.transport] = frozenset(ends)
    for other in others:
        cluster.network.cut(far.transport, other.transport)
    until = bridge.now + 20
    for other in others:
        bridge.lies.append(Eclipse(until, other.transport, ()))
    bridge.lies.append(Claims(until, random.Random(0), "numbers"))
    cluster.run(5)
    cluster.contribute(far)
    cluster.run(16)
    settle(cluster)


def test_a_feed_that_claimed_to_be_read_is_not_taken_for_all_there_is() -> None:
    """Cursors are ahead of what was read; roots tell, and a repair brings the rest."""
    _repent()


def test_who_takes_a_stale_feed_for_complete_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a doubt nothing is ever asked for again."""
    monkeypatch.setattr(Session, "_doubted", lambda *_, **__: False)
    with pytest.raises(NotConvergedError, match="different record roots"):
        _repent()
