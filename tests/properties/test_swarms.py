"""Whatever sources do, with an honest one among them a blob arrives, at a bounded cost."""

from hypothesis import given
from hypothesis import strategies as st

from crdtmerge.sync.sources import Fate
from crdtmerge.sync.swarm import HEDGES_MAX
from tests.swarms import COUNT, DATA, LIES, Download, Hostile, Lacking, Peer

TIMES = st.floats(0.0, 60.0)
PACES = st.sampled_from((0.001, 0.01, 0.3, 2.0, 10.0))
GOING = st.builds(Peer, pace=PACES, leaves=TIMES)
RETURNING = st.builds(
    lambda pace, leaves, away: Peer(pace, leaves, leaves + away), PACES, TIMES, TIMES
)
POOR = st.builds(
    Lacking, fate=st.sampled_from((Fate.LACKS, Fate.BUSY, Fate.GONE)), pace=PACES
)
HOSTILE = st.builds(
    Hostile, what=st.sampled_from(LIES), after=st.integers(0, 50), pace=PACES
)
OTHERS = st.lists(st.one_of(GOING, RETURNING, POOR, HOSTILE), max_size=7)
HONEST = st.builds(Peer, pace=PACES)
HELD = st.sets(st.integers(0, COUNT - 1))


@st.composite
def downloads(draw: st.DrawFn) -> Download:
    """Draw sources with an honest one somewhere among them."""
    peers = draw(OTHERS)
    peers.insert(draw(st.integers(0, len(peers))), draw(HONEST))
    return Download(peers, held=draw(HELD))


@given(downloads())
def test_the_right_bytes_arrive(download: Download) -> None:
    """One honest source suffices; none is accused; what comes in vain is bounded."""
    download.run()
    assert download.data == DATA
    honest = {n for n, peer in enumerate(download.peers) if peer.honest}
    assert not download.accused() & honest
    missing = COUNT - len(download.held)
    lies = len(download.peers) - len(honest)
    assert download.swarm.tally.hedged <= HEDGES_MAX
    assert download.taken <= missing + download.swarm.tally.hedged + lies


@given(downloads(), st.floats(0.0, 20.0))
def test_a_crash_costs_nothing_that_was_stored(
    download: Download, crash: float
) -> None:
    """A second life asks for what the first had not stored, and for nothing else."""
    download.run(until=crash)
    again = Download([Peer()], held=set(download.stored)).run()
    assert again.data == DATA
    assert again.asked == COUNT - len(download.stored)
