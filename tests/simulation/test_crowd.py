"""Many nodes in one run: they converge, hold what they may, and share what is the same."""

import gc

import pytest

from crdtmerge.orset import OpSet
from nodes.gossip import RUMOUR_FANOUT
from simulations import sharing
from simulations.checking.checkers import NotConvergedError
from simulations.limits import NODES_MAX
from simulations.sharing import Inserts
from simulations.stories import crowd as story
from simulations.stories.crowd import ALONE, Crowd, Watch, crowd, expect_kept
from simulations.stories.scenarios import run_scenario
from simulations.town import Town

SOME = 24


def test_a_crowd_converges_though_much_goes_wrong() -> None:
    """All join, some take back; records, merge id and merged bytes are those of all."""
    outcome = run_scenario("crowd", 2, SOME)
    assert outcome.nodes == SOME
    kinds = {"loss", "cut", "crash", "refuse"}
    assert {name for name, times in outcome.injected.items() if times} == kinds
    assert outcome.model_digest
    contributors = min(story.CONTRIBUTORS_MAX, SOME - SOME // story.LATE)
    taken_back = -(-contributors // story.TAKEN_BACK)
    assert outcome.visible == contributors - taken_back
    assert (
        outcome.records == 2 * SOME + story.RECORDS_BESIDE + contributors + taken_back
    )


@pytest.mark.slow
def test_a_crowd_may_be_larger_than_other_stories() -> None:
    """Other stories end where every node computes all for itself."""
    outcome = run_scenario("crowd", 2, NODES_MAX + 1)
    assert outcome.visible > 0
    assert outcome.nodes > ALONE


@pytest.mark.parametrize("bound", ["COMING_MAX", "STREAMS_MAX", "FETCHES_MAX"])
def test_what_is_held_above_its_bound_ends_the_story(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """The bounds are looked at while the story goes on, and not only at its end."""
    monkeypatch.setattr(story, bound, 1)
    with pytest.raises(NotConvergedError, match="no more than"):
        crowd(Crowd(1), 8)


def test_a_watch_keeps_the_most_that_was_held() -> None:
    """What it tells is the most of any moment."""
    cluster = Crowd(1)
    cluster.enrol(7)
    watch = Watch(cluster)
    watch.run(4.0)
    most = dict(cluster.most)
    assert most["streams"] == len(cluster.machines) - 1
    assert most["coming"] > 0
    for machine in cluster.machines[1:]:
        cluster.crash(machine)
    cluster.clock.run_until(60.0)
    watch.look()
    assert cluster.most == most


def test_a_node_that_keeps_other_than_it_shares_is_found() -> None:
    """A shared value is compared with what comes of the node's own records alone."""
    cluster = Crowd(1)
    cluster.enrol(5)
    cluster.run(5.0)
    content = cluster.contribute(cluster.machines[1])
    cluster.run(5.0)
    expect_kept(cluster, cluster.machines, visible=1)
    odd = cluster.machines[2]
    ban = cluster.replica(cluster.owner).ban("content", content)
    odd.records.append(cluster.space, [ban])
    with pytest.raises(NotConvergedError, match="node2 keeps another record root"):
        expect_kept(cluster, cluster.machines, visible=1)


def test_sets_of_the_same_records_are_one_value_whatever_came_first() -> None:
    """Two orders, one set: it is held once, and what is held by nobody goes."""
    town = Town(4, 0.0, RUMOUR_FANOUT, seed=1)
    inserts, begun = Inserts(), OpSet(town.space).insert([town.genesis])
    news = [town.news(machine) for machine in town.machines[:2]]
    one = inserts.insert(inserts.insert(begun, news[:1]), news[1:])
    other = inserts.insert(inserts.insert(begun, news[1:]), news[:1])
    assert one is other
    assert one.root == begun.insert(news).root
    inserts.steps.clear()
    del one, other
    gc.collect()
    assert not inserts.held


def test_no_more_steps_are_remembered_than_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was not taken for longest is computed anew."""
    monkeypatch.setattr(sharing, "STEPS_MAX", 2)
    town = Town(4, 0.0, RUMOUR_FANOUT, seed=1)
    inserts, begun = Inserts(), OpSet(town.space).insert([town.genesis])
    news = [town.news(machine) for machine in town.machines[:3]]
    for signed in (news[0], news[1], news[0], news[2]):
        inserts.insert(begun, [signed])
    assert len(inserts.steps) == 2
    computed = inserts.computed
    inserts.insert(begun, [news[0]])
    assert inserts.computed == computed
    inserts.insert(begun, [news[1]])
    assert inserts.computed == computed + 1
