"""A clock that is set back takes nothing from a node: no time passed, and time goes on."""

from hypothesis import given
from hypothesis import strategies as st

from nodes.gossip import BANISHED_S, Backoff
from nodes.steady import Steady


def test_a_step_back_is_no_time_and_a_step_ahead_is() -> None:
    """What was lost is made up for from then on."""
    readings = iter([100.0, 101.0, 41.0, 42.5, 1000.0, 999.0, 1000.0])
    clock = Steady(lambda: next(readings))
    assert [clock() for _ in range(7)] == [
        100.0,
        101.0,
        101.0,
        102.5,
        1060.0,
        1060.0,
        1061.0,
    ]


@given(st.lists(st.floats(-1e6, 1e6)))
def test_it_never_goes_back(readings: list[float]) -> None:
    """Whatever the clock behind it does."""
    left = iter(readings)
    clock = Steady(lambda: next(left))
    shown = [clock() for _ in readings]
    assert shown == sorted(shown)


def test_a_ban_ends_in_time_though_the_clock_went_back() -> None:
    """By the system's clock alone it would last a day longer."""
    now = 1000.0
    clock, backoff = Steady(lambda: now), Backoff()
    backoff.banish(b"peer", clock())
    now -= 86_400.0
    assert backoff.banished(b"peer", clock())
    now += BANISHED_S
    assert not backoff.banished(b"peer", clock())
