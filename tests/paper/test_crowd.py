"""Tier 3: replicas that exchange over real frames, and what is counted of them."""

from crdtmerge.strategies import make_recipe
from simulations.paper.crowd import all_pairs, gossip, run_ordering
from simulations.paper.replicas import Traffic, push
from simulations.paper.smaller import overhead, partition, sweep_one
from simulations.paper.spaces import bytes_digest, contributed, distinct

RECIPE = make_recipe("slerp", {})


def test_all_replicas_make_the_same_bytes() -> None:
    """Each from its own store, whatever the order of the pushes."""
    orders = [run_ordering(RECIPE, 6, 8, k, lambda _: None) for k in range(2)]
    assert len({model for order in orders for model in order.models}) == 1
    assert all(len(order.models) == 6 and order.roots == 1 for order in orders)
    assert orders[0].traffic.exchanges == 30
    # Each fetched each other's manifest and tensor once, and its own and the base never.
    assert orders[0].traffic.blobs == 6 * 5 * 2


def test_what_differs_is_counted() -> None:
    """Replicas that did not hear of all make other models."""
    founded = contributed(RECIPE, 3, 8)
    gossip(founded, [(0, 1)], Traffic())
    models = [founded.resolve(peer) for peer in founded.peers]
    assert distinct(models) == 3
    assert len({bytes_digest(model) for model in models}) == 3


def test_a_push_goes_one_way() -> None:
    """The sender takes nothing, as in the paper's definition."""
    founded = contributed(RECIPE, 2, 8)
    one, other = founded.peers
    push(one, other, founded.space, Traffic())
    sizes = [len(p.spaces.opset(founded.space)) for p in founded.peers]
    assert sizes == [3, 4]


def test_pushes_go_on_above_what_a_feed_brings() -> None:
    """Sets of more records than are simply sent are compared, and brought all the same."""
    founded = contributed(RECIPE, 70, 2)
    pairs = [(k, 0) for k in range(1, 70)] + [(0, 1)]
    assert gossip(founded, pairs, Traffic()) == 0  # the others have not heard
    roots = [p.spaces.opset(founded.space).root for p in founded.peers[:2]]
    assert roots[0] == roots[1]


def test_all_pairs_are_all_and_in_another_order() -> None:
    """So many as the paper has: 9,900 of 100."""
    one, other = (all_pairs(100, f"ordering {k}") for k in range(2))
    assert len(one) == 9_900
    assert sorted(one) == sorted(other)
    assert one != other


def test_islands_agree_inside_and_then_all_do() -> None:
    """Apart there are as many models as islands."""
    found = partition(2, 3)
    assert (found["agreed_inside"], found["distinct_apart"]) == (2, 2)
    assert (found["distinct_after"], found["equal_after"]) == (1, 6)


def test_a_strategy_that_tells_contributions_apart_is_swept_too() -> None:
    """Its rules go by tags, which travel with the records."""
    assert sweep_one("pma", 4)["distinct_models"] == 1


def test_overhead_is_of_so_many_contributions() -> None:
    """And below what the paper allows, in bytes; time is for the report."""
    found = overhead(16, rounds=1)
    kept = found["bytes"]
    assert found["contributions"] == 16
    assert isinstance(kept, int)
    assert 0 < kept < 10_000
