"""Tier 1: the audit of the laws holds for what we have, and catches broken joins."""

from collections.abc import Callable

import pytest

from crdtmerge.record import well_formed
from simulations.paper.catalogue import catalogue
from simulations.paper.laws import LAWS, Audit, Join, Wire, audit
from simulations.paper.replicas import State

REMOVING = "remove"


def kinds(state: State) -> list[str]:
    """Return the kinds of a state's records."""
    return [well_formed(r.data, r.signature).record.kind for r in state.records]


def without(state: State, kind: str, of: State | None = None) -> State:
    """Return a state without records of one kind, but for those that `of` holds."""
    kept = of.records if of else ()
    records = tuple(
        said
        for said in state.records
        if said in kept or well_formed(said.data, said.signature).record.kind != kind
    )
    return State(state.name, state.space, records, state.blobs)


def forgets_its_own(ours: State, theirs: State) -> State:
    """Take the peer's state in place of one's own."""
    return State(ours.name, ours.space, theirs.records, theirs.blobs)


def ignores_removes(ours: State, theirs: State) -> State:
    """Join, but for the removes that only the peer knows."""
    return without(Wire()(ours, theirs), REMOVING, ours)


def drops_removes(ours: State, theirs: State) -> State:
    """Join, and keep no remove of anybody, as if the wire had no word for them."""
    return without(Wire()(ours, theirs), REMOVING)


def forgets_its_blobs(ours: State, theirs: State) -> State:
    """Keep the peer's blobs alone: the records are right, and nothing can be resolved."""
    joined = Wire()(ours, theirs)
    return State(ours.name, ours.space, joined.records, theirs.blobs)


def audited(join: Join, name: str = "linear") -> Audit:
    """Return the audit of one strategy, with two of six orders of convergence."""
    (choice,) = catalogue((name,))
    return audit(choice, join, orders=2)


@pytest.mark.parametrize("name", ["linear", "slerp", "dare_ties", "pma", "passthrough"])
def test_two_layers_keep_all_four_laws(name: str) -> None:
    """By bytes, over the wire, with removes and re-adds."""
    wire = Wire()
    found = audited(wire, name)
    assert found.failed == {}
    assert found.comparisons > len(LAWS)
    assert wire.traffic.messages > 0


def test_the_histories_hold_what_they_are_for() -> None:
    """All three states differ, and each has removes and adds of its own."""
    states = audited(Wire()).apart.states
    assert len({frozenset(r.data for r in s.records) for s in states}) == len(states)
    for state in states:
        said = kinds(state)
        assert said.count("add") > 1
        assert said.count(REMOVING) >= 1


@pytest.mark.parametrize(
    ("join", "caught"),
    [
        (forgets_its_own, {"commutative", "convergence"}),
        (ignores_removes, {"commutative", "convergence"}),
        (drops_removes, {"idempotent", "convergence"}),
        (forgets_its_blobs, {"commutative", "convergence"}),
    ],
)
def test_a_broken_join_is_caught(
    join: Callable[[State, State], State], caught: set[str]
) -> None:
    """An audit that lets one of these through is worth nothing."""
    assert caught <= audited(join).failed.keys()
